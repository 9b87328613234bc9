# SPDX-License-Identifier: Apache-2.0
"""Where an artefact goes and how it gets there: nothing gets its name before it agrees, an older one stays until then.

Drafts are made in a workshop beside the output and published when they were compared. What is a folder is filled under
another name, and replaces only a folder of the same kind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from centermask_export.options import ExportOptions, size_text
from centermask_runtime.errors import ExportError, UsageError

DEFAULTS = ExportOptions()


@dataclass(frozen=True)
class Target:
    """Where an artefact goes: to `output` where it is named, else into `folder` under a name that says what it is."""

    folder: Path
    stem: str  # of the model's file
    ending: str
    output: Path | None = None
    of_artefact: bool = False  # the model's file is an artefact, whose name says already what is in it

    def path(self, options: ExportOptions, precision: str | None = None) -> Path:
        """The place. precision: that an engine was built in, where it is not the one that was asked for."""
        if self.output is not None:
            return self.output
        said = self.stem.split("_") if self.of_artefact else []
        tags = [tag for tag in name_tags(options, precision) if tag not in said]
        return self.folder / f"{'_'.join([self.stem, *tags])}{self.ending}"


def name_tags(options: ExportOptions, precision: str | None = None) -> list[str]:
    """What a name says of an artefact: all of its graph that differs from the default, and what it is built for."""
    precision = precision or options.precision
    return [
        *([precision] if precision != DEFAULTS.precision else []),
        *([options.graph] if options.graph != DEFAULTS.graph else []),
        *([size_text(options.imgsz)] if options.imgsz else []),
        *(["-".join(map(size_text, options.dynamic_imgsz))] if options.dynamic_imgsz else []),
        *(["dynamic"] if options.dynamic else []),
        *([f"batch{options.batch}"] if options.batch != DEFAULTS.batch else []),
        *([f"opset{options.opset}"] if options.opset is not None else []),
        *options.targets,
    ]


@contextlib.contextmanager
def workshop(output: Path) -> Iterator[Path]:
    """A folder beside `output` for drafts of it, gone in the end. Raises UsageError where none can be made."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".draft", dir=output.parent))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{output} cannot be written, {reason}: choose another output.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(draft: Path, output: Path) -> None:
    """Gives a draft and the file beside it (<draft>.json, <draft>.data, .bin) their names, the main one last."""
    if output.is_dir():
        raise UsageError(f"{output} cannot be written, it is a folder: choose another output.")
    beside = [draft.with_name(f"{draft.name}{ending}") for ending in (".json", ".data")]
    stale = output.suffix == ".onnx" and not data_file(draft).is_file()  # weights of a larger model that was here
    for file in (*beside, draft.with_suffix(".bin")):
        if file.is_file() and file != draft:
            name = f"{output.name}{file.suffix}" if file in beside else output.with_suffix(file.suffix).name
            os.replace(file, output.with_name(name))
    os.replace(draft, output)
    if stale:
        data_file(output).unlink(missing_ok=True)


def data_file(onnx_file: Path) -> Path:
    """Where the weights of a large ONNX model lie."""
    return onnx_file.with_name(f"{onnx_file.name}.data")


@contextlib.contextmanager
def whole_folder(path: Path, mark: str) -> Iterator[Path]:
    """A new folder to fill, which gets the name `path` at the end.

    mark: a file that every folder of this kind has. A folder that lacks it is somebody's, so it is not replaced.
    Raises UsageError, and ExportError when the disk is full.
    """
    if path.exists() and not (path / mark).is_file():
        kind = "a folder without" if path.is_dir() else "a file, not a folder with"
        raise UsageError(f"{path} is {kind} {mark}, so it is not replaced: choose another output.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise UsageError(f"{path} cannot be written, {error.strerror}: choose another output.") from error
    try:
        draft.chmod(0o755)  # mkdtemp makes it private; a server runs as somebody else
        yield draft
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            os.rename(path, old)
            os.rename(draft, path)
            shutil.rmtree(old)
        else:
            os.rename(draft, path)
    except OSError as error:
        raise ExportError(f"The folder {path} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)

# SPDX-License-Identifier: Apache-2.0
"""An output folder that appears complete or not at all, and that replaces only a folder of the same kind."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from centermask_runtime.errors import ExportError, UsageError


@contextlib.contextmanager
def whole_folder(path: Path, mark: str) -> Iterator[Path]:
    """A new folder to fill, which gets the name `path` at the end.

    mark: a file that every folder of this kind has. A folder that lacks it is somebody's, so it is not replaced.
    Raises UsageError, and ExportError when the disk is full.
    """
    if path.exists() and not (path / mark).is_file():
        kind = "a folder without" if path.is_dir() else "a file, not a folder with"
        raise UsageError(f"{path} is {kind} {mark}, so it is not replaced: choose another --output.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise UsageError(f"{path} cannot be written, {error.strerror}: choose another --output.") from error
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

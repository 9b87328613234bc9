# SPDX-License-Identifier: Apache-2.0
"""Wishes that a format, or this machine, cannot meet: each is refused in one sentence before any work.

What makes no sense for any format is refused where ExportOptions is made.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from centermask_export.formats import FORMATS, Engine, Format
from centermask_export.options import BF16_OPSET, ExportOptions
from centermask_runtime.cuda.facts import Gpu, gpus
from centermask_runtime.errors import ExportError, UsageError, did_you_mean
from centermask_runtime.packages import install_command, is_installed, need


def accept(options: ExportOptions, output: Path | None, command: str = "") -> tuple[Format, Gpu | None]:
    """The format that the options name, and the GPU that an engine in it will be built on.

    command: what to run on another machine where no engine can be built here. Raises UsageError, and ExportError where
    the GPU is not here.
    """
    kind = format_of(options)
    refuse_output(kind, output)
    return kind, require_builder(kind, options, command)


def format_of(options: ExportOptions) -> Format:
    """The format that the options name. Raises UsageError where it is not known or cannot be what they ask."""
    kind = FORMATS.get(options.format)
    if kind is None:
        raise UsageError(f"The format {options.format} is not known; {did_you_mean(options.format, FORMATS)}")
    _check_graph(kind, options)
    engine = kind.engine_of(options)
    _check_dynamic(kind, options, engine)
    _check_foreign(kind, options, engine)
    return kind


def require_builder(kind: Format, options: ExportOptions, command: str = "") -> Gpu | None:
    """The GPU that an engine for these options will be built on; None where it needs none, or no engine is built.

    command: what to run on the machine with the GPU. Raises UsageError without the library, ExportError without a GPU.
    """
    engine = kind.engine_of(options)
    if engine is None:
        return None
    anywhere = ", ".join(other.name for other in FORMATS.values() if other.engine and not other.needs_gpu)
    elsewhere = (
        f"{f'run `{command}`' if command else 'export'} on the machine that will use it, or choose the format "
        f"{anywhere}, which builds here without a GPU"
    )
    if not engine.needs_gpu:
        need(engine.library, engine.extra, f"building engines of {engine.name}")
        return None
    if not is_installed(engine.library):
        raise UsageError(
            f"{engine.library} is needed for building engines of {engine.name}, but it is not installed: "
            f"{install_command(engine.extra)} and {elsewhere}."
        )
    here = gpus()
    if options.device >= len(here):
        raise ExportError(
            f"{engine.name} builds on the GPU that runs the engine, but GPU {options.device} is not here: {elsewhere}."
        )
    return here[options.device]


def refuse_output(kind: Format, output: Path | None) -> None:
    """Raises UsageError where an artefact cannot have the name that was given, before the work of making it."""
    if output is None or kind.files == "folder":
        return
    if output.is_dir():
        raise UsageError(f"{output} cannot be written, it is a folder: choose another output.")
    suffix = Path(f"model{kind.ending}").suffix
    if kind.compared and output.suffix != suffix:
        raise UsageError(f"The format {kind.name} is a {suffix} file, which {output} is not: choose another output.")


def takers(option: str) -> list[str]:
    """Who takes an option that is not for all: names of formats, with the back end where it depends on that."""
    found = []
    for kind in FORMATS.values():
        if (option == "backend" and kind.backends) or (kind.engine and option in kind.engine.options):
            found.append(kind.name)
        engines = kind.backends.items()
        found += [f"{kind.name} with backend {name}" for name, engine in engines if engine and option in engine.options]
    return found


def _check_graph(kind: Format, options: ExportOptions) -> None:
    if options.precision not in kind.precisions:
        raise UsageError(
            f"The format {kind.name} cannot have precision {options.precision}; it takes {', '.join(kind.precisions)}."
        )
    if options.graph not in kind.graphs:
        raise UsageError(
            f"graph {options.graph} was asked of the format {kind.name}, which has {', '.join(kind.graphs)}; leave it "
            f"out, or choose {', '.join(other.name for other in FORMATS.values() if options.graph in other.graphs)}."
        )
    if kind.backends and options.backend not in kind.backends:
        raise UsageError(
            f"The format {kind.name} has no backend {options.backend}; {did_you_mean(options.backend, kind.backends)}"
        )
    if options.opset is None:
        return
    if not kind.made_of_onnx:
        raise UsageError(f"opset was given, but the format {kind.name} has no operator set; leave it out.")
    if kind.graph_options(options).precision == "bf16" and options.opset < BF16_OPSET:
        raise UsageError(
            f"opset {options.opset} has no convolution in bf16; choose {BF16_OPSET} or more, or another precision."
        )


def _check_dynamic(kind: Format, options: ExportOptions, engine: Engine | None) -> None:
    for name, wish, axis in (
        ("dynamic", options.dynamic, "batch"), ("dynamic_imgsz", options.dynamic_imgsz is not None, "imgsz")
    ):  # fmt: skip
        if wish and axis not in kind.dynamic:
            raise UsageError(
                f"{name} was asked of the format {kind.name}, whose graph has one {axis}; leave it out, or choose "
                f"{', '.join(other.name for other in FORMATS.values() if axis in other.dynamic)}."
            )
    if engine and options.dynamic and options.batch == 1 and options.dynamic_imgsz is None:
        raise UsageError("dynamic needs batch, the largest batch of the engine, which it is tuned for.")


def _check_foreign(kind: Format, options: ExportOptions, engine: Engine | None) -> None:
    """Refuses an option that only other formats take."""
    taken = {*(engine.options if engine else ()), *(("backend",) if kind.backends else ())}
    for option in dataclasses.fields(options):
        given = getattr(options, option.name) != option.default
        if given and option.name not in taken and (others := takers(option.name)):
            this = f"{kind.name} with backend {options.backend}" if kind.backends else kind.name
            raise UsageError(
                f"{option.name} is for the format {', '.join(others)}, not {this}"
                f"{f' ({engine.note})' if engine else ''}; leave it out."
            )

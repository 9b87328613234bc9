# SPDX-License-Identifier: Apache-2.0
"""`centermask export`: weights to what a machine runs, checked against the weights before anyone uses it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import TaskID
from rich.table import Table

from centermask.cli.completion import complete_model
from centermask.cli.options import open_dataset
from centermask.cli.tables import bar, outputs_table
from centermask_export.checks import MAX_AP_DROP, CheckError, Checks
from centermask_export.checks.outputs import OutputsReport
from centermask_export.export import export as run_export
from centermask_export.formats import FORMATS
from centermask_export.options import (
    HARDWARE_COMPATIBILITY,
    PRECISIONS,
    ExportOptions,
    parse_size,
    parse_sizes,
    parse_targets,
)
from centermask_export.refusals import takers
from centermask_runtime.errors import UsageError, did_you_mean
from centermask_runtime.spec import GRAPH_LEVELS

if TYPE_CHECKING:
    from centermask_export.checks.ap import ApReport
    from centermask_export.engines.engine_file import EngineDescription
    from centermask_export.request import ExportReport

BACKENDS = tuple(dict.fromkeys(backend for kind in FORMATS.values() for backend in kind.backends))


def only(option: str, text: str) -> str:
    """The help of an option that not every format takes."""
    return f"{', '.join(takers(option))}: {text}"


class FormatChoice(click.Choice[str]):
    """The formats; a wrong one is answered with the nearest."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            self.fail(f"There is no format '{value}'; {did_you_mean(value, FORMATS)}", param, ctx)
        return super().convert(value, param, ctx)


@click.command()
@click.option(
    "--model",
    required=True,
    shell_complete=complete_model,
    help="Weights (.safetensors), a released model's name, or an exported .onnx file for what is made of one.",
)
@click.option(
    "--format",
    "format_",
    type=FormatChoice(tuple(FORMATS)),
    default="onnx",
    show_default=True,
    help="See: centermask formats.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Default: beside the model, here for a released one, under a name with all that is not the default.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Default: fp32, or what an .onnx file has.")
@click.option("--half", is_flag=True, help="--precision fp16.")
@click.option("--int8", is_flag=True, help="--precision int8.")
@click.option(
    "--graph",
    type=click.Choice(GRAPH_LEVELS),
    default="peaks",
    show_default=True,
    help="Where the graph ends: at detections, or at the dense heads.",
)
@click.option(
    "--imgsz", metavar="SIZE", help="Input size, 512 or HEIGHTxWIDTH, multiples of 32 (default: the model's)."
)
@click.option(
    "--batch",
    type=int,
    default=1,
    show_default=True,
    help="Images per run; with --dynamic, the most that an engine takes.",
)
@click.option("--dynamic", is_flag=True, help="Any batch size.")
@click.option("--dynamic-imgsz", metavar="MIN,OPT,MAX", help="Any input size between, tuned for OPT: 256,512,1024.")
@click.option("--opset", type=int, help="ONNX operator set (default: the lowest that is supported).")
@click.option("--calib-data", type=click.Path(path_type=Path), help="int8: a folder of images to find ranges on.")
@click.option("--fraction", type=float, help="int8: part of the calibration images to use (default: 1).")
@click.option(
    "--targets", metavar="SM,...", help=only("targets", "architectures, as sm86,sm89 (default: Ampere and newer).")
)
@click.option("--workspace", type=float, metavar="GIB", help=only("workspace", "memory limit."))
@click.option(
    "--timing-cache",
    type=click.Path(path_type=Path, dir_okay=False),
    help=only("timing_cache", "read, and written again."),
)
@click.option(
    "--version-compatible", is_flag=True, help=only("version_compatible", "runs on later minor versions too.")
)
@click.option(
    "--hardware-compatibility",
    type=click.Choice(HARDWARE_COMPATIBILITY),
    help=only("hardware_compatibility", "runs on other GPUs too."),
)
@click.option(
    "--device", type=int, default=0, show_default=True, metavar="GPU", help=only("device", "the GPU to build on.")
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default=BACKENDS[0],
    show_default=True,
    help=only("backend", "what serves the model."),
)
@click.option(
    "--source", type=click.Path(path_type=Path), help="Images to compare outputs on (default: two that ship)."
)
@click.option("--verify", type=click.Path(path_type=Path), metavar="DATA", help="Also compare AP on this data set.")
@click.option("--split", default="val", show_default=True, help="With --verify: part of the data set.")
@click.option("--max-ap-drop", type=float, help="With --verify: what box and mask AP may lose [default: 0.005].")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON line, last.")
def export(
    model: str,
    format_: str,
    output: Path | None,
    precision: str | None,
    half: bool,
    int8: bool,
    imgsz: str | None,
    dynamic_imgsz: str | None,
    targets: str | None,
    source: Path | None,
    verify: Path | None,
    split: str,
    max_ap_drop: float | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Export a model to ONNX, OpenVINO, TensorRT and more.

    Ends with a table of differences, and with exit code 5 when the artefact differs from its source.
    """
    options = ExportOptions(
        format=format_,
        precision=_precision(precision, half, int8),
        imgsz=None if imgsz is None else parse_size(imgsz),
        dynamic_imgsz=None if dynamic_imgsz is None else parse_sizes(dynamic_imgsz),
        targets=() if targets is None else parse_targets(targets),
        **given,
    )
    if max_ap_drop is not None and verify is None:
        raise UsageError("--max-ap-drop needs --verify DATA, the data set to measure AP on.")
    dataset = None if verify is None else open_dataset(verify, split, None, None)
    drop = MAX_AP_DROP if max_ap_drop is None else max_ap_drop
    try:
        with _bars() as (loop, build):
            checks = Checks(source, dataset, drop, loop)
            report = run_export(model, options, output, checks, progress=build, command=_command(model, options))
    except CheckError as error:
        failed = error.report
        outputs, ap = (failed, None) if isinstance(failed, OutputsReport) else (None, failed)
        _print(outputs, ap, str(output or model), as_json)
        raise
    written = report.written
    if report.outputs is None:
        click.echo(f"{written.output} ({written.precision}), made of {model}.", err=as_json)
        if as_json:
            click.echo(json.dumps({"output": str(written.output), "precision": written.precision}))
    else:
        _print(report.outputs, report.ap, str(written.output), as_json, report)
    click.echo(f"Next: {FORMATS[format_].next_step(written.output, options)}", err=as_json)


def _precision(precision: str | None, half: bool, int8: bool) -> str:
    wishes = {precision} if precision else set()
    wishes |= {"fp16"} if half else set()
    wishes |= {"int8"} if int8 else set()
    if len(wishes) > 1:
        raise UsageError(
            f"One export has one precision, but {' and '.join(sorted(wishes))} were asked for; choose one."
        )
    return wishes.pop() if wishes else "fp32"


def _command(model: str, options: ExportOptions) -> str:
    """The same export, for a machine where an engine can be built."""
    words = ["centermask export --model", model, "--format", options.format]
    words += ["--backend", options.backend] if FORMATS[options.format].backends else []
    words += ["--precision", options.precision] if options.precision != "fp32" else []
    words += ["--calib-data", str(options.calib_data)] if options.calib_data else []
    return " ".join(words)


def _print(
    outputs: OutputsReport | None, ap: ApReport | None, name: str, as_json: bool, report: ExportReport | None = None
) -> None:
    """Tables, then one line of JSON. report: of an export that passed."""
    console = Console(stderr=as_json)
    if outputs is not None:
        console.print(outputs_table(outputs, Path(name)))
    if ap is not None:
        console.print(_ap_table(ap))
    line: dict[str, Any] = {} if outputs is None else dataclasses.asdict(outputs)
    line |= {"ok": report is not None, "output": None, "ap": None if ap is None else ap.to_dict()}
    if report is not None:
        line |= {"output": name, "precision": report.written.precision}
        if report.written.engine is not None:
            line["engine"] = _print_engine(report.written.engine.description, console)
        elif not report.artefact_ran:
            console.print(f"The table is of the ONNX file in {name}.")
    if as_json:
        click.echo(json.dumps(line))


def _print_engine(engine: EngineDescription, console: Console) -> dict[str, Any]:
    """One sentence; gives what the JSON line has of it."""
    builder = f"{engine.builder} {engine.builder_version}"
    layers = ", ".join(f"{count} {kind}" for kind, count in sorted(engine.layer_precisions.items()))
    console.print(
        f"Engine of {builder} for {engine.gpu}; convolutions and products: {layers} (by the {engine.precisions_from}). "
        "The table is of the ONNX file that it was built from; the engine itself was not run."
    )
    return {
        "builder": builder,
        "gpu": engine.gpu,
        "layer_precisions": engine.layer_precisions,
        "sha256": engine.plan_sha256,
    }


def _ap_table(report: ApReport) -> Table:
    table = Table(f"{report.images} images", "AP of the weights", "of the artefact", "drop", "allowed", "")
    for kind, name in (("bbox", "box"), ("segm", "mask")):
        drop = report.drops[kind]
        table.add_row(
            name,
            f"{report.expected[kind]['AP']:.4f}",
            f"{report.actual[kind]['AP']:.4f}",
            f"{drop:+.4f}",
            f"{report.max_ap_drop:g}",
            "ok" if drop <= report.max_ap_drop else "FAILED",
        )
    return table


@contextlib.contextmanager
def _bars() -> Iterator[tuple[Callable[..., Iterator[int]], Callable[[str, int, int], None]]]:
    """What shows loops over images, and the phases of an engine build, on stderr."""
    progress = bar()  # started by the first task: without one nothing is printed
    tasks: dict[str, TaskID] = {}

    def task(title: str, total: int) -> TaskID:
        progress.start()
        return progress.add_task(title, total=total, note="")

    def loop(indices: Iterator[int], count: int, title: str) -> Iterator[int]:
        number = task(title, count)
        for index in indices:
            yield index
            progress.advance(number)

    def build(phase: str, step: int, steps: int) -> None:
        if phase not in tasks:
            tasks[phase] = task(phase.lower(), steps)
        progress.update(tasks[phase], completed=step)

    try:
        yield loop, build
    finally:
        if progress.tasks:
            progress.stop()

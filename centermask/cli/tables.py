# SPDX-License-Identifier: Apache-2.0
"""Tables and bars that the commands print."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.progress import Progress
from rich.table import Table

from centermask.progress import progress_bar
from centermask_runtime.speed import REPORTED_FPS, REPORTED_ON, SpeedReport

if TYPE_CHECKING:
    from centermask.model.cost import ModelCost
    from centermask.model.pretrained import WeightsReport
    from centermask_export.checks.outputs import OutputsReport


def bar() -> Progress:
    """A progress bar on stderr, so that stdout stays for results."""
    return progress_bar(Console(stderr=True))


@contextlib.contextmanager
def loop_bar() -> Iterator[Callable[[Iterator[int], int, str], Iterator[int]]]:
    """A bar for the `progress` argument of evaluation."""
    with bar() as progress:

        def wrap(indices: Iterator[int], count: int, title: str) -> Iterator[int]:
            task = progress.add_task(title, total=count, note="")
            for index in indices:
                yield index
                progress.advance(task)

        yield wrap


def metrics_table(metrics: dict[str, dict[str, float]], title: str) -> Group:
    names = list(metrics["segm"])
    table = Table("", *names)
    for kind, label in (("bbox", "box"), ("segm", "mask")):
        table.add_row(label, *(f"{metrics[kind][name]:.4f}" for name in names))
    return Group(title, table)


def outputs_table(report: OutputsReport, artefact: Path) -> Group:
    compared = f"{report.matched} detections matched, {report.unmatched} not"
    if report.outputs and report.outputs[0].name == "heatmap":  # graph level heads
        compared = f"{report.matched} values of dense maps"
    title = f"{artefact}: {report.source} and {report.artefact} on {report.images} images, {compared}"
    table = Table("output", "largest difference", "mean", "allowed", "")
    for output in report.outputs:
        table.add_row(
            output.name,
            f"{output.largest:.2e}",
            f"{output.mean:.2e}",
            f"{output.tolerance:g}{' on average' if output.of_mean else ''}",
            "ok" if output.ok else "FAILED",
        )
    return Group(title, table)


def speed_table(report: SpeedReport) -> Group:
    height, width = report.frame_hw
    title = (
        f"{report.model} ({report.precision}, {report.input_hw[1]}x{report.input_hw[0]}) on {width}x{height} video, "
        f"{report.frames} frames, {report.objects_median:g} objects per frame (most {report.objects_max})"
    )
    caption = (
        f"{report.network}; {report.machine['cpu']}. {report.fps:.1f} FPS is {report.fps / REPORTED_FPS:.2f} x the "
        f"{REPORTED_FPS} FPS that the paper reports for DLA-34 at 512x512 on {REPORTED_ON}."
    )
    table = Table("stage", "median ms", "p95 ms")
    for stage in report.stages:
        table.add_row(stage.stage, f"{stage.median_ms:.2f}", f"{stage.p95_ms:.2f}")
    table.add_row("FPS", f"{report.fps:.1f}", "")
    return Group(title, table, caption)


LISTED = 12  # names that a table lists before it counts the rest


def cost_table(cost: ModelCost) -> Group:
    height, width = cost.input_hw
    classes = "1 class" if cost.num_classes == 1 else f"{cost.num_classes} classes"
    title = f"{cost.name}, {classes}, one image of {width}x{height}"
    caption = "GFLOP: convolutions and matrix products, 2 per multiply-add. Sparse: offset, size, shape at the K peaks."
    table = Table("part", "parameters", "GFLOP dense", "GFLOP sparse")
    for part in (*cost.parts, cost.total):
        gflop = (f"{flop / 1e9:.2f}" for flop in (part.dense_flop, part.sparse_flop))
        table.add_row(part.name, f"{part.parameters:,}", *gflop)
    return Group(title, table, caption)


def weights_table(report: WeightsReport) -> Group:
    """Tensors used of each part of the model; then some of those of another shape, and of what the file has besides."""
    table = Table("part", "tensors", "used", "of another shape", "keep initial values")
    names = [*report.used, *(one.name for one in report.mismatched), *report.untouched]
    for part in dict.fromkeys(name.partition(".")[0] for name in names):
        used, other, kept = (
            sum(name.partition(".")[0] == part for name in group)
            for group in (report.used, [one.name for one in report.mismatched], report.untouched)
        )
        table.add_row(part, *(str(number) for number in (used + other + kept, used, other, kept)))
    lines = [f"{one.name}: {list(one.found)} in the file, {list(one.wanted)} in the model" for one in report.mismatched]
    lines[LISTED:] = [f"... and {len(lines) - LISTED} more of another shape"] if len(lines) > LISTED else []
    if report.skipped:
        more = f", and {len(report.skipped) - LISTED} more" if len(report.skipped) > LISTED else ""
        lines.append(f"without a place in the model: {', '.join(report.skipped[:LISTED])}{more}")
    return Group(str(report), table, *lines)

# SPDX-License-Identifier: Apache-2.0
"""`centermask compare`: two artefacts on the same images or video, in numbers and side by side in pictures."""

from __future__ import annotations

import contextlib
import itertools
import json
from pathlib import Path

import click
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from centermask.cli.compare_pictures import side_by_side
from centermask.cli.completion import complete_model
from centermask.cli.options import device_options, threads_option
from centermask.cli.tables import bar
from centermask.opening import open_network
from centermask_export.checks.objects import Comparison, Limits
from centermask_export.checks.outputs import TOLERANCES
from centermask_runtime.device import Device
from centermask_runtime.errors import DataError, ExportError, UsageError
from centermask_runtime.images import write_picture
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.selection import Selection
from centermask_runtime.sources.addresses import is_address
from centermask_runtime.sources.opening import open_source


@click.command()
@click.argument("a", shell_complete=complete_model)
@click.argument("b", shell_complete=complete_model)
@click.option("--source", required=True, help="An image, a folder of images, or a video.")
@click.option("--frames", type=click.IntRange(min=1), default=100, show_default=True, help="Frames, at most.")
@click.option("--conf", type=float, help="Score threshold of both (default: that of A).")
@click.option("--output", type=click.Path(path_type=Path), help="A folder for side-by-side pictures: A, B, difference.")
@click.option("--max-score-diff", type=click.FloatRange(min=0), help="Exit 5 where scores differ by more.")
@click.option("--max-box-diff", type=click.FloatRange(min=0), help="Exit 5 where a box edge differs by more pixels.")
@click.option("--min-mask-iou", type=click.FloatRange(0, 1), help="Exit 5 where two masks overlap less.")
@click.option(
    "--max-unmatched", type=click.IntRange(min=0), help="Exit 5 where more objects have no partner (with a limit: 0)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one JSON line, last.")
@device_options
@threads_option
def compare(
    a: str, b: str, source: str, frames: int, conf: float | None, output: Path | None, max_score_diff: float | None,
    max_box_diff: float | None, min_mask_iou: float | None, max_unmatched: int | None, as_json: bool,
    device: str, cuda_driver: str, threads: int | None,
) -> None:  # fmt: skip
    """Compare two artefacts, such as weights and their ONNX file.

    A and B are weights (.safetensors), exported files, or names of released models. Their outputs, objects and masks
    are compared. Objects are matched by class and box, so their order does not matter. With a limit, differences beyond
    it end in exit code 5.
    """
    if is_address(source):
        raise UsageError(f"--source {source} is a stream's address, and compare takes files: record it, then compare.")
    place = Device.of(device, cuda_driver)
    limits = Limits(max_score_diff, max_box_diff, min_mask_iou, max_unmatched)
    with contextlib.ExitStack() as stack:
        networks = [stack.enter_context(open_network(model, place, threads)) for model in (a, b)]
        one, other = (Pipeline(network, Selection.of(network.spec, conf=conf)) for network in networks)
        result = Comparison.of(one, other, (a, b))
        progress = stack.enter_context(bar())
        task = progress.add_task("compare", total=None, note="")
        opened = stack.enter_context(open_source(source))
        for frame in itertools.islice(opened, frames):
            found_a, found_b, difference = result.add(one, other, frame.image)
            if output is not None:
                name = frame.name if Path(frame.name).suffix else f"{frame.name}.png"
                write_picture(output / name, side_by_side(frame.image, found_a, found_b, difference, (a, b)))
            progress.update(task, advance=1, note=f"{frame.name}: {len(difference.pairs)} objects in both")
        descriptions = one.network.description, other.network.description
    for sentence in opened.skipped:
        click.echo(f"Skipped: {sentence}", err=True)
    if not result.frames:
        raise DataError(f"No image or frame of {source} could be read; check it.")
    failures = result.failures(limits)
    Console(stderr=as_json).print(_table(result, descriptions, limits.score))
    if output is not None:
        click.echo(f"Pictures in {output}", err=as_json)
    if as_json:
        click.echo(
            json.dumps({**result.to_dict(), "skipped": opened.skipped, "failures": failures, "ok": not failures})
        )
    if failures:
        raise ExportError(f"{a} and {b} differ on {result.frames} frames: {'; '.join(failures)}.")


def _table(result: Comparison, descriptions: tuple[str, str], score_limit: float | None) -> Group:
    numbers = result.summary()
    alone = len(result.margins)
    near = alone - result.unmatched(score_limit)
    objects = Table("objects", "mean", "worst", title_justify="left")
    objects.add_row("score difference", f"{numbers['score']['mean']:.2e}", f"{numbers['score']['largest']:.2e}")
    objects.add_row("box difference, pixels", f"{numbers['box']['mean']:.3f}", f"{numbers['box']['largest']:.3f}")
    objects.add_row("mask IoU", f"{numbers['mask_iou']['mean']:.4f}", f"{numbers['mask_iou']['smallest']:.4f}")
    outputs = Table("outputs", "largest difference", "fp32 back ends differ by")
    for name, values in result.outputs.items():
        outputs.add_row(name, f"{max(values, default=0):.2e}", f"up to {TOLERANCES[name]:g}")
    for name in result.skipped:
        outputs.add_row(name, "not comparable: of another size", "")
    forgiven = f", {near} of them next to the threshold" if near else ""
    return Group(
        Text(f"A: {result.names[0]}, {descriptions[0]}"),  # no markup: a path may hold brackets
        Text(f"B: {result.names[1]}, {descriptions[1]}"),
        f"{result.frames} frames at score {result.score_threshold:g}: {result.objects[0]} objects in A, "
        f"{result.objects[1]} in B, {len(result.pairs)} in both, {alone} in one only{forgiven}",
        objects,
        outputs,
    )

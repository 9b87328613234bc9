# SPDX-License-Identifier: Apache-2.0
"""`centermask predict`: images, folders and videos to drawn pictures or an MP4, and COCO JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from centermask.cli.options import default_model_option, device_options, model_or_default, threads_option
from centermask.cli.source_options import (
    Sources,
    notices_above,
    source_options,
    stoppable,
    tell_left_out,
    tell_streams,
)
from centermask.cli.tables import bar
from centermask.opening import open_pipeline
from centermask_runtime.device import Device
from centermask_runtime.errors import counted
from centermask_runtime.predict import Result, Summary, outputs, run
from centermask_runtime.reference.overlay import MOST_LABELS, DrawStyle


@click.command()
@source_options
@default_model_option
@click.option("--output", type=click.Path(path_type=Path), help="A folder (default: runs/predict, predict2, ...).")
@click.option("--conf", type=float, help="Score threshold (default: the model's).")
@click.option("--mask-threshold", type=float, help="Mask threshold (default: the model's).")
@click.option("--max-det", type=int, help="Most objects per frame (default: the model's K).")
@click.option("--classes", help="Only these classes, by name or number, comma-separated.")
@click.option("--save/--no-save", default=True, show_default=True, help="Write drawn pictures or the video.")
@click.option("--boxes/--no-boxes", default=True, show_default=True, help="Draw boxes.")
@click.option(
    "--labels/--no-labels",
    default=True,
    show_default=True,
    help=f"Draw names and scores, where a frame has at most {MOST_LABELS} objects.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a summary as one JSON line, last.")
@device_options
@threads_option
def predict(
    sources: Sources, model: str | None, output: Path | None, conf: float | None, mask_threshold: float | None,
    max_det: int | None, classes: str | None, save: bool, boxes: bool, labels: bool, as_json: bool, device: str,
    cuda_driver: str, threads: int | None,
) -> None:  # fmt: skip
    """Find the objects in images, videos or streams, and draw them.

    SOURCE is the same as --source; several are read one after the other, and streams at once. The output folder gets
    drawn pictures or .mp4 files, and predictions.json (COCO). Ctrl-C finishes them with what there is.
    """
    place = Device.of(device, cuda_driver)
    wanted = None if classes is None else [name.strip() for name in classes.split(",")]
    folder = output or free_folder(Path("runs"), "predict")
    style = DrawStyle(boxes=boxes, labels=labels) if save else None
    summary = Summary(output=folder)
    with (
        sources.open() as opened,  # before the model, which takes longer
        open_pipeline(
            model_or_default(model), place, threads, conf=conf, mask_threshold=mask_threshold, max_det=max_det,
            classes=wanted, run_lengths=True,
        ) as pipeline,
        bar() as progress,
        notices_above(progress),
    ):  # fmt: skip
        tell_left_out(opened)
        task = progress.add_task("predict", total=opened.info.count, note="")

        def told(result: Result) -> None:
            progress.update(task, advance=1, note=f"{result.frame.name}: {len(result.instances)} objects")

        sinks = outputs(folder, opened.info, pipeline.spec, style=style)
        try:
            with stoppable() as interrupt:
                run(pipeline, opened, sinks, progress=told, summary=summary, poll=interrupt.poll)
        except KeyboardInterrupt:
            progress.stop()
            click.echo(f"Stopped after {counted(summary.frames, 'frame')}; results in {folder}", err=True)
            raise
        finally:
            tell_streams(opened)
        description = pipeline.description
    if len(summary.skipped) > 1:  # one alone is the error below
        for sentence in summary.skipped:
            click.echo(f"Skipped: {sentence}", err=True)
    click.echo(
        f"{counted(summary.objects, 'object')} in {counted(summary.frames, 'frame')}, "
        f"{summary.fps:.1f} FPS of the pipeline on "
        f"{description}; results in {summary.output}",
        err=as_json,
    )
    if as_json:
        click.echo(json.dumps(summary.to_dict()))
    summary.require_complete()


def free_folder(parent: Path, name: str) -> Path:
    """parent/name, or the first of parent/name2, name3, ... that is not there."""
    number = 1
    while (path := parent / (name if number == 1 else f"{name}{number}")).exists():
        number += 1
    return path

# SPDX-License-Identifier: Apache-2.0
"""`centermask predict`: images, folders and videos to drawn pictures or an MP4, and COCO JSON."""

from __future__ import annotations

import json

import click

from centermask.cli.options import default_model_option, device_options, model_or_default, threads_option
from centermask.cli.output_options import Destination, output_options
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
from centermask_runtime.predict import Result, Summary, run


@click.command()
@source_options
@default_model_option
@output_options(jobs=True)
@click.option("--conf", type=float, help="Score threshold (default: the model's).")
@click.option("--mask-threshold", type=float, help="Mask threshold (default: the model's).")
@click.option("--max-det", type=int, help="Most objects per frame (default: the model's K).")
@click.option("--classes", help="Only these classes, by name or number, comma-separated.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as one JSON line, last.")
@device_options
@threads_option
def predict(
    sources: Sources, model: str | None, output: Destination, conf: float | None, mask_threshold: float | None,
    max_det: int | None, classes: str | None, as_json: bool, device: str, cuda_driver: str, threads: int | None,
) -> None:  # fmt: skip
    """Find the objects in images, videos or streams, and draw them.

    SOURCE is the same as --source; several are read one after the other, and streams at once. The output folder gets
    drawn pictures or .mp4 files, and predictions.json (COCO) or other kinds of --results. Ctrl-C finishes them with
    what there is.
    """
    place = Device.of(device, cuda_driver)
    wanted = None if classes is None else [name.strip() for name in classes.split(",")]
    output.check(as_json)
    summary = Summary()
    with (
        sources.open() as opened,  # before the model, which takes longer
        open_pipeline(
            model := model_or_default(model), place, threads, conf=conf, mask_threshold=mask_threshold,
            max_det=max_det, classes=wanted, run_lengths=True,
        ) as pipeline,
        output,
        bar() as progress,
        notices_above(progress),
    ):  # fmt: skip
        if not output.open(opened, model):
            click.echo(f"All was done before; {output.said}", err=True)
            return
        tell_left_out(opened)
        total = None if opened.info.count is None else opened.info.count - output.before
        task = progress.add_task("predict", total=total, note="")

        def told(result: Result) -> None:
            progress.update(task, advance=1, note=f"{result.frame.name}: {len(result.instances)} objects")
            output.refresh()

        summary.output = output.folder
        try:
            with stoppable() as interrupt:
                run(
                    pipeline,
                    opened,
                    output.sinks(opened, pipeline.spec),
                    progress=told,
                    summary=summary,
                    poll=interrupt.poll,
                )
        except KeyboardInterrupt:
            progress.stop()
            click.echo(f"Stopped after {counted(summary.frames, 'frame')}; {output.said}", err=True)
            raise
        finally:
            tell_streams(opened)
        output.finish()
        description = pipeline.description
    if len(summary.skipped) > 1:  # one alone is the error below
        for sentence in summary.skipped:
            click.echo(f"Skipped: {sentence}", err=True)
    click.echo(
        f"{counted(summary.objects, 'object')} in {counted(summary.frames, 'frame')}, "
        f"{summary.fps:.1f} FPS of the pipeline on "
        f"{description}; {output.said}",
        err=as_json or output.folder is None,
    )
    if as_json:
        click.echo(json.dumps(summary.to_dict()))
    summary.require_complete()

# SPDX-License-Identifier: Apache-2.0
"""`centermask predict`: images, folders and videos to drawn pictures or an MP4, and COCO JSON."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager

import click

from centermask.cli.options import default_model_option, device_options, model_or_default, threads_option, tile_options
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
from centermask_runtime.errors import counted, shown
from centermask_runtime.large_images import save_large
from centermask_runtime.pipeline.frame import FramePipeline
from centermask_runtime.pipeline.tiles import TiledPipeline
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.predict import Result, Summary, run
from centermask_runtime.tiff_windows import TiffWindows, open_if_large


@click.command()
@source_options
@default_model_option
@output_options(jobs=True)
@click.option("--conf", type=float, help="Score threshold (default: the model's).")
@click.option("--mask-threshold", type=float, help="Mask threshold (default: the model's).")
@click.option("--max-det", type=int, help="Most objects per frame (default: the model's K).")
@click.option("--classes", help="Only these classes, by name or number, comma-separated.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as one JSON line, last.")
@tile_options
@device_options
@threads_option
def predict(
    sources: Sources, model: str | None, output: Destination, conf: float | None, mask_threshold: float | None,
    max_det: int | None, classes: str | None, as_json: bool, tile: int | None,
    overlap: int | None, device: str, cuda_driver: str, threads: int | None,
) -> None:  # fmt: skip
    """Find the objects in images, videos or streams, and draw them.

    SOURCE is the same as --source; several are read one after the other, and streams at once. The output folder gets
    drawn pictures or .mp4 files, and predictions.json (COCO) or other kinds of --results. Ctrl-C finishes them with
    what there is.
    """
    place, tiling = Device.of(device, cuda_driver), Tiling.of(tile, overlap)
    wanted = None if classes is None else [name.strip() for name in classes.split(",")]
    output.check(as_json)

    def opened_pipeline(model: str) -> AbstractContextManager[FramePipeline]:
        return open_pipeline(
            model, place, threads, conf=conf, mask_threshold=mask_threshold, max_det=max_det, classes=wanted,
            run_lengths=True, tiling=tiling,
        )  # fmt: skip

    if tiling is not None and len(sources.words) == 1 and (image := open_if_large(sources.words[0])) is not None:
        with image, opened_pipeline(model_or_default(model)) as pipeline, output:
            _tell(_predict_large(pipeline, image, output), pipeline.description, output, as_json)
        return
    summary = Summary()
    with (
        sources.open() as opened,  # before the model, which takes longer
        opened_pipeline(model := model_or_default(model)) as pipeline,
        output,
        bar() as progress,
        notices_above(progress),
    ):
        if not output.open(opened, model):
            click.echo(f"All was done before; {output.said}", err=True)
            return
        tell_left_out(opened)
        total = None if opened.info.count is None else opened.info.count - output.before
        task = progress.add_task("predict", total=total, note="")

        def told(result: Result) -> None:
            progress.update(
                task, advance=1, note=f"{shown(result.frame.name)}: {counted(len(result.instances), 'object')}"
            )
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
    _tell(summary, description, output, as_json)
    summary.require_complete()


def _predict_large(pipeline: FramePipeline, image: TiffWindows, output: Destination) -> Summary:
    assert isinstance(pipeline, TiledPipeline), pipeline
    folder, style = output.open_alone()
    rows = sum(1 for _ in pipeline.tiling.rows(image.frame_hw))
    with bar() as progress:
        task = progress.add_task("predict", total=rows, note="")

        def told(row: int, objects: int) -> None:
            progress.update(task, completed=min(row, rows), note=f"{image.path.name}: {objects} objects")

        return save_large(pipeline, image, folder, style=style, progress=told)


def _tell(summary: Summary, description: str, output: Destination, as_json: bool) -> None:
    click.echo(
        f"{counted(summary.objects, 'object')} in {counted(summary.frames, 'frame')}, "
        f"{summary.fps:.1f} FPS of the pipeline on "
        f"{description}; {output.said}",
        err=as_json or output.folder is None,
    )
    if as_json:
        click.echo(json.dumps(summary.to_dict()))

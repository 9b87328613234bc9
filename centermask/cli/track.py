# SPDX-License-Identifier: Apache-2.0
"""`centermask track`: a video whose objects have ids, with trails, and counts of what crosses lines and zones."""

from __future__ import annotations

import json
from pathlib import Path

import click

from centermask.cli.options import default_model_option, device_options, model_or_default, threads_option, tile_options
from centermask.cli.output_options import STDOUT, Destination, output_options
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
from centermask_runtime.arguments import number
from centermask_runtime.device import Device
from centermask_runtime.errors import UsageError, counted, shown
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.predict import Result, Summary, run
from centermask_runtime.sinks.outputs import COUNTS
from centermask_runtime.sinks.tracked import Tracked
from centermask_runtime.tracking.regions_file import read_regions
from centermask_runtime.tracking.tracker import Tracker
from centermask_runtime.tracking.trails import LONGEST_TRAIL_S, USUAL_FPS


@click.command()
@source_options
@default_model_option
@output_options(jobs=False)
@click.option(
    "--regions", type=click.Path(path_type=Path), help="Zones and lines that count objects, in YAML or GeoJSON."
)
@click.option(
    "--counts-every", type=float, default=1.0, show_default=True, help="Seconds per row of counts; 0: each frame."
)
@click.option("--gap", type=float, default=1.5, show_default=True, help="Seconds that an object may be missing.")
@click.option("--confirm", type=int, default=2, show_default=True, help="Frames in a row before an object has an id.")
@click.option("--start-conf", type=float, default=0.0, show_default=True, help="Lowest score that begins a track.")
@click.option("--by-class/--any-class", default=True, show_default=True, help="Whether a track stays in its class.")
@click.option("--fps", type=float, help="Frames per second of images (default: 25).")
@click.option("--trail", type=float, default=2.0, show_default=True, help="Seconds of an object's way to draw.")
@click.option("--conf", type=float, help="Score threshold (default: the model's).")
@click.option("--mask-threshold", type=float, help="Mask threshold (default: the model's).")
@click.option("--max-det", type=int, help="Most objects per frame (default: the model's K).")
@click.option("--classes", help="Only these classes, by name or number, comma-separated.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as one JSON line, last.")
@tile_options
@device_options
@threads_option
def track(
    sources: Sources, model: str | None, output: Destination, regions: Path | None,
    counts_every: float, gap: float, confirm: int, start_conf: float, by_class: bool, fps: float | None, trail: float,
    conf: float | None, mask_threshold: float | None, max_det: int | None, classes: str | None,
    as_json: bool, tile: int | None, overlap: int | None, device: str, cuda_driver: str, threads: int | None,
) -> None:  # fmt: skip
    """Follow the objects of a video, and count them in zones.

    SOURCE is the same as --source; several are read one after the other, and streams at once, each with tracks of its
    own; a folder's images are one video. The output folder gets drawn videos with ids and trails, predictions.json
    (COCO, with track_id) and, with --regions, counts.csv. Ctrl-C finishes them with what there is.
    """
    place, tiling = Device.of(device, cuda_driver), Tiling.of(tile, overlap)
    wanted = None if classes is None else [name.strip() for name in classes.split(",")]
    output.check(as_json)
    zones = None if regions is None else read_regions(regions)
    if zones is not None and output.output == STDOUT:
        raise UsageError("--regions writes counts.csv, and --output - no file: name a folder.")
    number("counts_every", counts_every, 0, 86_400)
    number("trail", trail, 0, LONGEST_TRAIL_S)
    usual_fps = USUAL_FPS if fps is None else number("fps", fps, 0.001, 10_000)
    summary, tracks = Summary(), 0
    with sources.open() as opened:  # before the model, which takes longer
        rate = float(opened.info.fps or usual_fps)
        tracker = Tracker(gap=gap, confirm=confirm, start_conf=start_conf, by_class=by_class, fps=rate)
        if zones is not None and opened.info.size_hw is not None:
            zones.within(opened.info.size_hw)  # refused before the model is opened
        with (
            open_pipeline(
                model := model_or_default(model), place, threads, conf=conf, mask_threshold=mask_threshold,
                max_det=max_det, classes=wanted, run_lengths=True, tiling=tiling,
            ) as pipeline,
            output,
            bar() as progress,
            notices_above(progress),
        ):  # fmt: skip
            output.open(opened, model)
            summary.output = output.folder
            tell_left_out(opened)
            task = progress.add_task("track", total=opened.info.count, note="")

            def told(result: Result) -> None:
                nonlocal tracks
                assert result.instances.ids is not None
                tracks = max(tracks, int(result.instances.ids.max(initial=0)))  # they count from 1
                progress.update(
                    task, advance=1, note=f"{shown(result.frame.name)}: {counted(len(result.instances), 'object')}"
                )
                output.refresh()

            tracked = Tracked(zones, trail, counts_every, rate)
            sinks = output.sinks(opened, pipeline.spec, tracked)
            try:
                with stoppable() as interrupt:
                    run(pipeline, opened, sinks, tracker=tracker, progress=told, summary=summary, poll=interrupt.poll)
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
        f"{counted(tracks, 'track')} of {counted(summary.objects, 'object')} in {counted(summary.frames, 'frame')}, "
        f"{summary.fps:.1f} FPS of the pipeline on {description}; {output.said}"
        f"{'' if zones is None or output.folder is None else f', counts in {shown(output.folder / COUNTS)}'}",
        err=as_json or output.folder is None,
    )
    if as_json:
        click.echo(json.dumps({**summary.to_dict(), "tracks": tracks}))
    summary.require_complete()

# SPDX-License-Identifier: Apache-2.0
"""`centermask benchmark`: the speed of a model on a clip, stage by stage."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from centermask.cli.options import device_options, model_option, threads_option
from centermask.cli.tables import speed_table
from centermask.opening import open_pipeline
from centermask_runtime.device import Device
from centermask_runtime.errors import DataError
from centermask_runtime.sources.video import VideoSource
from centermask_runtime.speed import SpeedReport, measure


@click.command()
@model_option
@click.option("--source", type=click.Path(path_type=Path), required=True, help="A video.")
@click.option("--conf", type=float, help="Score threshold (default: the model's).")
@click.option("--warmup", type=click.IntRange(min=0), default=5, show_default=True, help="Frames that do not count.")
@click.option(
    "--frames", type=click.IntRange(min=1), default=100, show_default=True, help="Frames that count, at most."
)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one JSON line, last.")
@device_options
@threads_option
def benchmark(
    model: str, source: Path, conf: float | None, warmup: int, frames: int, as_json: bool, device: str,
    cuda_driver: str, threads: int | None,
) -> None:  # fmt: skip
    """Measure the FPS and stage times of a model on a video.

    Decoding the video is not timed. On a GPU it is played twice: at full speed for the FPS, then for the stages.
    """
    place = Device.of(device, cuda_driver)

    def timed(stage_times: bool) -> SpeedReport:
        with (
            VideoSource(source) as video,
            open_pipeline(model, place, threads, stage_times=stage_times, conf=conf) as pipeline,
        ):
            speed = measure(pipeline, (frame.image for frame in video), warmup=warmup, limit=frames)
        if video.skipped:  # the video is damaged before as many frames as were asked for
            raise DataError(video.skipped[0])
        return speed

    report = timed(stage_times=False)
    if not report.has_stage_times:  # of a GPU at full speed
        report = report.with_stages_of(timed(stage_times=True))
    Console(stderr=as_json).print(speed_table(report))
    if as_json:
        click.echo(json.dumps(report.to_dict()))

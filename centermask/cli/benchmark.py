# SPDX-License-Identifier: Apache-2.0
"""`centermask benchmark`: the speed of a model on a clip, stage by stage."""

from __future__ import annotations

from pathlib import Path

import click

from centermask.cli.options import model_option, open_network, threads_option


@click.command()
@model_option
@click.option("--source", type=click.Path(path_type=Path), required=True, help="A video.")
@click.option("--conf", type=float, help="Score threshold (default: the model's).")
@click.option("--warmup", type=click.IntRange(min=0), default=5, show_default=True, help="Frames that do not count.")
@click.option(
    "--frames", type=click.IntRange(min=1), default=100, show_default=True, help="Frames that count, at most."
)
@threads_option
def benchmark(model: str, source: Path, conf: float | None, warmup: int, frames: int, threads: int | None) -> None:
    """FPS and stage times of a model on a video: a table, and one JSON line."""
    import json

    from rich.console import Console

    from centermask.cli.display import speed_table
    from centermask_runtime.pipeline import Pipeline
    from centermask_runtime.speed import measure
    from centermask_runtime.video.sources import video_frames

    with Pipeline(open_network(model, threads), score_threshold=conf) as pipeline:
        report = measure(pipeline, (frame.image for frame in video_frames(source)), warmup=warmup, limit=frames)
    Console().print(speed_table(report))
    click.echo(json.dumps(report.to_dict()))

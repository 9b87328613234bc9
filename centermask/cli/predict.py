# SPDX-License-Identifier: Apache-2.0
"""`centermask predict`: images, folders and videos to drawn pictures or an MP4, and COCO JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from centermask.cli.options import device_options, model_option, threads_option
from centermask.cli.predict_run import free_folder, predict_images, predict_video
from centermask.opening import open_pipeline
from centermask_runtime.device import Device
from centermask_runtime.errors import UsageError
from centermask_runtime.sources.files import is_stream, is_video


@click.command()
@model_option
@click.option("--source", required=True, help="An image, a folder of images, or a video.")
@click.option("--output", type=click.Path(path_type=Path), help="A folder (default: runs/predict, predict2, ...).")
@click.option("--conf", type=float, help="Score threshold (default: the model's).")
@click.option("--mask-threshold", type=float, help="Mask threshold (default: the model's).")
@click.option("--max-det", type=int, help="Most objects per frame (default: the model's K).")
@click.option("--classes", help="Only these classes, by name, comma-separated.")
@click.option("--save/--no-save", default=True, show_default=True, help="Write drawn pictures or the video.")
@click.option("--boxes/--no-boxes", default=True, show_default=True, help="Draw boxes.")
@click.option("--labels/--no-labels", default=True, show_default=True, help="Draw class names and scores.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as one JSON line, last.")
@device_options
@threads_option
def predict(
    model: str, source: str, output: Path | None, conf: float | None, mask_threshold: float | None, max_det: int | None,
    classes: str | None, save: bool, boxes: bool, labels: bool, as_json: bool, device: str, cuda_driver: str,
    threads: int | None,
) -> None:  # fmt: skip
    """Find the objects in images or a video, and draw them.

    The output folder gets drawn pictures or an .mp4, and predictions.json (COCO).
    """
    if is_stream(source):
        raise UsageError(f"--source {source} is a stream's address, and predict takes files: record it, then predict.")
    wanted = None if classes is None else [name.strip() for name in classes.split(",")]
    with open_pipeline(
        model, Device.of(device, cuda_driver), threads, conf=conf, mask_threshold=mask_threshold, max_det=max_det,
        classes=wanted, run_lengths=True,
    ) as pipeline:  # fmt: skip
        run = predict_video if is_video(source) else predict_images
        summary = run(pipeline, source, output or free_folder(Path("runs"), "predict"), save, boxes, labels)
        description = pipeline.description
    if len(summary.skipped) > 1:  # one alone is the error below
        for sentence in summary.skipped:
            click.echo(f"Skipped: {sentence}", err=True)
    click.echo(
        f"{summary.objects} objects in {summary.frames} frames, {summary.fps:.1f} FPS of the pipeline on "
        f"{description}; results in {summary.output}",
        err=as_json,
    )
    if as_json:
        click.echo(json.dumps(summary.to_dict()))
    summary.require_complete()

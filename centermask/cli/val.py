# SPDX-License-Identifier: Apache-2.0
"""`centermask val`: box and mask AP of weights or an exported model."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

import click
from rich.console import Console

from centermask.cli.options import (
    data_options,
    device_options,
    model_option,
    open_dataset,
    threads_option,
    tile_options,
)
from centermask.cli.tables import loop_bar, metrics_table
from centermask.opening import open_network
from centermask_runtime.device import Device
from centermask_runtime.packages import need
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.pipeline.tiling import Tiling


@click.command()
@model_option
@data_options
@click.option(
    "--conf", type=float, help="Lowest score that counts (default: that of COCO evaluation, far below predict's)."
)
@click.option("--mask-threshold", type=float, help="Instead of the model's own.")
@click.option("--save-json", type=click.Path(path_type=Path, dir_okay=False), help="Write COCO results here.")
@click.option(
    "--plots", type=click.Path(path_type=Path, file_okay=False),
    help="Draw PR and F1 curves, the confusion matrix and results into this folder.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as one JSON line, last.")
@tile_options
@device_options
@threads_option
def val(
    model: str, data: Path | None, split: str, annotations: Path | None, images: Path | None, conf: float | None,
    mask_threshold: float | None, save_json: Path | None, plots: Path | None, as_json: bool,
    tile: int | None, overlap: int | None, device: str, cuda_driver: str, threads: int | None,
) -> None:  # fmt: skip
    """Measure the box and mask AP of a model on a data set.

    AP is computed by pycocotools, through the pipeline that predict uses.
    """
    need("pycocotools", "train", "computing AP")
    if plots is not None:  # now, not after the work
        need("matplotlib", "train", "drawing curves")
    from centermask.evaluation.evaluate import SCORE_THRESHOLD, evaluate  # needs pycocotools, an extra

    place, tiling = Device.of(device, cuda_driver), Tiling.of(tile, overlap)
    dataset = open_dataset(data, split, annotations, images)
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(open_network(model, place, threads))
        # reserved before the work: a place that cannot be written is found now
        results = None if save_json is None else stack.enter_context(PartialFile(save_json))
        progress = stack.enter_context(loop_bar())
        score_threshold = SCORE_THRESHOLD if conf is None else conf
        evaluation = evaluate(
            network, dataset, score_threshold=score_threshold, mask_threshold=mask_threshold, tiling=tiling,
            progress=progress,
        )  # fmt: skip
        if results is not None:
            results.write(json.dumps(evaluation.results).encode())
        spec, description = network.spec, network.description
    if plots is not None:
        from centermask.evaluation.report import write_report  # needs matplotlib, an extra

        report = write_report(plots, dataset, evaluation.results, evaluation.max_detections)
        click.echo(
            f"Best mask F1 {report.f1:.3f} at a score threshold of {report.score_threshold:.3f}; pictures in {plots}",
            err=as_json,
        )
    Console(stderr=as_json).print(
        metrics_table(evaluation.metrics, f"{spec.name} on {len(dataset)} images, {description}")
    )
    if as_json:
        finite = {  # a size that no object has: NaN here, null in JSON
            kind: {name: value if math.isfinite(value) else None for name, value in values.items()}
            for kind, values in evaluation.metrics.items()
        }
        click.echo(json.dumps(finite))

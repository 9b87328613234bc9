# SPDX-License-Identifier: Apache-2.0
"""`centermask visualize`: a file of results drawn beside the ground truth, as detectron2's visualize_json_results."""

from __future__ import annotations

from pathlib import Path

import click

from centermask.cli.options import data_options, open_dataset
from centermask.cli.tables import loop_bar
from centermask.evaluation.pictures import beside
from centermask_runtime.errors import UsageError
from centermask_runtime.images import picture_path, write_picture
from centermask_runtime.packages import need
from centermask_runtime.reference import overlay
from centermask_runtime.value_range import FOR_EYES


@click.command()
@click.option(
    "--input", "results", type=click.Path(path_type=Path), required=True,
    help="JSON of val --save-json, or predictions.json of predict.",
)  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), required=True, help="A folder; one picture per image.")
@data_options
@click.option("--dataset", type=click.Path(path_type=Path), help="The same as --data.")
@click.option("--conf", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Score threshold.")
@click.option("--boxes/--no-boxes", default=True, show_default=True, help="Draw boxes.")
@click.option("--labels/--no-labels", default=True, show_default=True, help="Draw class names and scores.")
def visualize(
    results: Path, output: Path, data: Path | None, split: str, annotations: Path | None, images: Path | None,
    dataset: Path | None, conf: float, boxes: bool, labels: bool,
) -> None:  # fmt: skip
    """Draw results beside the ground truth.

    Predictions are left, annotations right.
    """
    need("pycocotools", "train", "reading data sets and results")
    from centermask.evaluation.drawing import draw_truth, of_image, result_instances  # these need pycocotools
    from centermask.evaluation.results_file import read_results

    if data is not None and dataset is not None:
        raise UsageError("--dataset and --data are the same option; give one of them.")
    truth = open_dataset(data or dataset, split, annotations, images)
    found = of_image(read_results(results, truth), conf)
    records = truth.images
    names = [picture_path(output / record.path.name) for record in records]
    if len(set(names)) < len(names):  # the same name in several folders
        names = [picture_path(output / f"{record.id}_{record.path.name}") for record in records]
    if any(name.exists() and name.samefile(record.path) for name, record in zip(names, records, strict=True)):
        raise UsageError(f"--output {output} holds the images themselves; choose another folder.")
    with loop_bar() as progress:
        for index in progress(iter(range(len(truth))), len(truth), "visualize"):
            image, record = truth.image(index, FOR_EYES), records[index]
            instances = result_instances(
                found.get(record.id, []), (record.height, record.width), truth.class_names, truth.category_ids
            )
            drawn = overlay.draw(image, instances, overlay.DrawStyle(boxes=boxes, labels=labels))
            annotated = draw_truth(truth, index, image, boxes=boxes, labels=labels)
            captions = f"prediction, score >= {conf:g}", "ground truth"
            write_picture(names[index], beside((drawn, annotated), captions))
    click.echo(f"{len(truth)} pictures in {output}")

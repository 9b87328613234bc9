# SPDX-License-Identifier: Apache-2.0
"""The folder of pictures that explain an evaluation: curves, the confusion matrix, ground truth and results.

Results are drawn and counted from the score on that gives the highest F1 of masks at IoU 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centermask.data.dataset import Dataset
from centermask.evaluation.coco_ap import load_ground_truth
from centermask.evaluation.confusion import confusion_matrix, matrix_csv
from centermask.evaluation.curves import curves
from centermask.evaluation.drawing import draw_truth, of_image, result_instances
from centermask.evaluation.pictures import encode, square_sheet
from centermask.evaluation.plots import draw_confusion_matrix, draw_f1_curve, draw_pr_curve
from centermask_runtime.errors import DataError
from centermask_runtime.partial_file import write_whole
from centermask_runtime.reference import overlay
from centermask_runtime.value_range import FOR_EYES

SHEETS, ON_A_SHEET = 3, 16


@dataclass(frozen=True)
class Report:
    folder: Path
    score_threshold: float  # of the highest mask F1, mean over classes
    f1: float


def write_report(folder: Path, dataset: Dataset, results: list[dict[str, Any]], max_detections: int) -> Report:
    """Writes box_PR_curve.png, mask_PR_curve.png, the same two of F1, confusion_matrix.{png,csv} and
    val_batch{0,1,2}_{labels,pred}.jpg. Results are COCO's. Raises DataError where there is no object to be found."""
    truth = load_ground_truth(dataset.annotation_file, converted=dataset.converted)
    if all(one["iscrowd"] for one in truth.dataset["annotations"]):
        raise DataError(f"{dataset.annotation_file} has no object but crowds, so there are no curves to draw.")
    for kind, name in (("bbox", "box"), ("segm", "mask")):  # masks last: their threshold is used below
        found = curves(truth, results, max_detections, kind)
        draw_pr_curve(folder / f"{name}_PR_curve.png", found)
        draw_f1_curve(folder / f"{name}_F1_curve.png", found)
    threshold, f1 = found.best
    matrix = confusion_matrix(truth, results, threshold)
    write_whole(folder / "confusion_matrix.csv", matrix_csv(matrix, dataset.class_names).encode())
    draw_confusion_matrix(folder / "confusion_matrix.png", matrix, dataset.class_names, threshold)
    write_sheets(folder, dataset, results, threshold)
    return Report(folder, threshold, f1)


def write_sheets(folder: Path, dataset: Dataset, results: list[dict[str, Any]], score_threshold: float) -> None:
    """Draws the first images of a data set, SHEETS of ON_A_SHEET each: objects, and results of at least a score."""
    found = of_image(results, score_threshold)
    for sheet in range(SHEETS):
        indices = range(len(dataset))[sheet * ON_A_SHEET : (sheet + 1) * ON_A_SHEET]
        if not indices:
            return
        labels, predictions = [], []
        for index in indices:
            image, record = dataset.image(index, FOR_EYES), dataset.images[index]
            labels.append(draw_truth(dataset, index, image))
            instances = result_instances(
                found.get(record.id, []), (record.height, record.width), dataset.class_names, dataset.category_ids
            )
            predictions.append(overlay.draw(image, instances))
        write_whole(folder / f"val_batch{sheet}_labels.jpg", encode(square_sheet(labels), ".jpg"))
        write_whole(folder / f"val_batch{sheet}_pred.jpg", encode(square_sheet(predictions), ".jpg"))

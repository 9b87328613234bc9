# SPDX-License-Identifier: Apache-2.0
"""The confusion matrix of masks: which class an object was taken for, and what was missed or found where nothing is.

Within an image the pair of object and detection with the highest mask IoU is taken first, whatever their classes, then
the next of those that remain, down to IoU 0.5. A detection that is left over and lies in a crowd of any class counts
for nothing, as in COCO's AP.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

IOU_THRESHOLD = 0.5
BACKGROUND = "background"


def confusion_matrix(truth: COCO, results: Sequence[Mapping[str, Any]], score_threshold: float) -> NDArray[np.int64]:
    """Counts into [C + 1, C + 1]: rows are the true classes in the order of their ids, columns the predicted ones.

    The last row is background taken for an object, the last column objects that were missed. Results are COCO's, with
    masks as run lengths; those of a score below the threshold do not count.
    """
    row_of = {category_id: row for row, category_id in enumerate(sorted(truth.getCatIds()))}
    background = len(row_of)
    matrix = np.zeros((background + 1, background + 1), np.int64)
    found = defaultdict(list)
    for result in results:
        if result["score"] >= score_threshold:
            found[result["image_id"]].append(result)
    for image_id in truth.getImgIds():
        annotations = truth.imgToAnns[image_id]
        objects = [one for one in annotations if not one["iscrowd"]]
        crowds = [one for one in annotations if one["iscrowd"]]
        detections = sorted(found[image_id], key=lambda one: -float(one["score"]))
        pairs = _match(_iou(truth, detections, objects))
        for detection, one in pairs.items():
            matrix[row_of[objects[one]["category_id"]], row_of[detections[detection]["category_id"]]] += 1
        for number in set(range(len(objects))) - set(pairs.values()):
            matrix[row_of[objects[number]["category_id"]], background] += 1
        in_crowd = _iou(truth, detections, crowds).max(1, initial=0.0) >= IOU_THRESHOLD
        for number in set(range(len(detections))) - set(pairs):
            matrix[background, row_of[detections[number]["category_id"]]] += not in_crowd[number]
    return matrix


def matrix_csv(matrix: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """Writes the matrix as a table with names: one row per true class, one column per predicted one."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [*class_names, BACKGROUND]
    writer.writerow(["true \\ predicted", *names])
    writer.writerows([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))
    return text.getvalue()


def _match(iou: NDArray[np.float64]) -> dict[int, int]:
    """Pairs by IoU [detections, objects] and returns detection: object; of equal ones the earlier detection counts."""
    pairs: dict[int, int] = {}
    candidates = np.argwhere(iou >= IOU_THRESHOLD)
    order = np.argsort(-iou[candidates[:, 0], candidates[:, 1]], kind="stable")
    taken: set[int] = set()
    for detection, one in candidates[order].tolist():
        if detection not in pairs and one not in taken:
            pairs[detection] = one
            taken.add(one)
    return pairs


def _iou(
    truth: COCO, detections: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]]
) -> NDArray[np.float64]:
    """Returns IoU [detections, annotations]; of a crowd the part of the detection that lies in it."""
    if not detections or not annotations:
        return np.zeros((len(detections), len(annotations)))
    masks = [one["segmentation"] for one in detections]
    crowds = [int(one["iscrowd"]) for one in annotations]
    return np.asarray(coco_mask.iou(masks, [truth.annToRLE(one) for one in annotations], crowds), np.float64)

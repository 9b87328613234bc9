# SPDX-License-Identifier: Apache-2.0
"""COCO box and mask AP by pycocotools. One deviation from its summary: maxDets is the model's K (paper: top-100)."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from centermask.data.segmentation import as_runs

Metrics = dict[str, dict[str, float]]  # {"bbox": {"AP": ...}, "segm": {"AP": ...}}

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")


def load_ground_truth(
    annotation_file: Path, only: set[int] | None = None, converted: Mapping[str, Any] | None = None
) -> COCO:
    """Reads the annotation file as pycocotools wants it, and fills in `area` and `iscrowd`, which many exporters omit.

    Annotations are numbered from 1, because COCOeval takes the id 0 of a match for no match.

    `only` keeps the images of these ids. `converted`: of a data set in another layout, Dataset.converted.
    """
    content = json.loads(annotation_file.read_text()) if converted is None else copy.deepcopy(dict(converted))
    if only is not None:
        content["images"] = [image for image in content["images"] if image["id"] in only]
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in only]
    size = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    for number, annotation in enumerate(content["annotations"], 1):
        annotation["id"] = number
        annotation["iscrowd"] = int(bool(annotation.get("iscrowd", 0)))
        if "area" not in annotation or "bbox" not in annotation:
            runs = as_runs(annotation["segmentation"], size[annotation["image_id"]])
            annotation.setdefault("area", float(coco_mask.area(runs)))
            annotation.setdefault("bbox", coco_mask.toBbox(runs).tolist())
    content.setdefault("info", {})
    truth = COCO()
    truth.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def coco_ap(
    truth: COCO, results: list[dict[str, Any]], max_detections: int, kinds: Sequence[str] = ("bbox", "segm")
) -> Metrics:
    """Returns the AP of results in COCO's format, over all images of `truth`. A size nobody has gives NaN."""
    return {kind: _ap(truth, results, kind, max_detections) for kind in kinds}


def run_cocoeval(truth: COCO, results: list[dict[str, Any]], kind: str, max_detections: int) -> COCOeval:
    """Runs pycocotools and returns its matches (evalImgs) and curves (eval) of one kind, bbox or segm."""
    # copies: loadRes adds to what it gets; no bbox for segm: pycocotools would take its area for the object's size
    unwanted = {"bbox"} if kind == "segm" else set()
    results = [{key: value for key, value in result.items() if key not in unwanted} for result in results]
    with contextlib.redirect_stdout(io.StringIO()):
        found = truth.loadRes(results) if results else COCO()  # loadRes cannot read an empty list
        evaluation = COCOeval(truth, found, kind)
        evaluation.params.maxDets = [1, 10, max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _ap(truth: COCO, results: list[dict[str, Any]], kind: str, max_detections: int) -> dict[str, float]:
    evaluation = run_cocoeval(truth, results, kind, max_detections)
    precision = evaluation.eval["precision"][..., -1]  # [IoU, recall, class, area]
    recall = evaluation.eval["recall"][..., -1]  # [IoU, class, area]
    values = (
        precision[:, :, :, 0], precision[0, :, :, 0], precision[5, :, :, 0],
        precision[:, :, :, 1], precision[:, :, :, 2], precision[:, :, :, 3], recall[:, :, 0],
    )  # fmt: skip
    return {name: _mean(value) for name, value in zip(NAMES, values, strict=True)}


def _mean(values: np.ndarray[Any, Any]) -> float:
    counted = values[values > -1]
    return float(counted.mean()) if counted.size else float("nan")

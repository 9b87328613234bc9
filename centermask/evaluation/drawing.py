# SPDX-License-Identifier: Apache-2.0
"""Ground truth and results as Instances, so that the runtime's overlay draws both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask.data.dataset import Dataset
from centermask.data.segmentation import as_runs, tight_crop
from centermask.evaluation.pictures import Picture
from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.geometry import clip_boxes
from centermask_runtime.instances import Instances
from centermask_runtime.reference import overlay

_NOTHING = (0, 0, 0, 0), np.zeros((0, 0), np.bool_)  # rectangle and crop of a mask without a pixel


def draw_truth(dataset: Dataset, index: int, image: Picture, *, boxes: bool = True, labels: bool = True) -> Picture:
    """Draws the objects of an image on top of it; crowds are classes of their own."""
    return overlay.draw(
        image, truth_instances(dataset, index), overlay.DrawStyle(boxes=boxes, labels=labels, scores=False)
    )


def truth_instances(dataset: Dataset, index: int) -> Instances:
    """Returns the objects of an image; its crowds come as classes of their own, behind the data set's."""
    objects = dataset.objects(index)
    record, count = dataset.images[index], len(dataset.class_names)
    frame_hw = record.height, record.width
    rects = np.array([one.rect for one in objects], np.int32).reshape(-1, 4)
    crowds = [f"{name} (crowd)" for name in dataset.class_names] if any(one.crowd for one in objects) else []
    return Instances(
        frame_hw,
        rects.astype(np.float32),
        np.ones(len(objects), np.float32),
        np.array([one.label + count * one.crowd for one in objects], np.int32),
        BoxMasks.from_crops(frame_hw, rects, [one.crop for one in objects]),
        (*dataset.class_names, *crowds),
        dataset.category_ids * (2 if crowds else 1),
    )


def result_instances(
    results: Sequence[Mapping[str, Any]],
    frame_hw: tuple[int, int],
    class_names: tuple[str, ...],
    category_ids: tuple[int, ...],
) -> Instances:
    """Turns one image's COCO results into Instances, best first. A result without a mask has an empty one."""
    results = sorted(results, key=lambda one: -float(one["score"]))
    boxes = np.zeros((len(results), 4), np.float32)
    rects = np.zeros((len(results), 4), np.int32)
    crops: list[NDArray[np.bool_]] = []
    for number, result in enumerate(results):
        mask = result.get("segmentation")
        rect, crop = (tight_crop(as_runs(mask, frame_hw)) if mask else None) or _NOTHING
        rects[number] = rect
        crops.append(crop)
        left, top, across, down = result.get("bbox", (*rect[:2], rect[2] - rect[0], rect[3] - rect[1]))
        boxes[number] = left, top, left + across, top + down
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}
    return Instances(
        frame_hw,
        clip_boxes(boxes, frame_hw),
        np.array([one["score"] for one in results], np.float32),
        np.array([label_of[one["category_id"]] for one in results], np.int32),
        BoxMasks.from_crops(frame_hw, rects, crops),
        class_names,
        category_ids,
    )


def of_image(results: Sequence[Mapping[str, Any]], score_threshold: float) -> dict[int, list[Mapping[str, Any]]]:
    """Groups results of at least a score by image id."""
    found = defaultdict(list)
    for result in results:
        if result["score"] >= score_threshold:
            found[int(result["image_id"])].append(result)
    return found

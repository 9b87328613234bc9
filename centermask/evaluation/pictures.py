# SPDX-License-Identifier: Apache-2.0
"""Pictures of ground truth and of results: both become Instances and are drawn by the runtime's overlay."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask.data.dataset import Dataset
from centermask.data.segmentation import as_runs, tight_crop
from centermask.evaluation.contact_sheet import BACKGROUND, GAP, contact_sheet
from centermask_runtime.geometry import clip_boxes
from centermask_runtime.instances import BoxMasks, Instances
from centermask_runtime.reference import overlay

Picture = NDArray[np.uint8]  # [H, W, 3] BGR

LEAST_SIDE, MOST_SIDE = 320, 480  # pixels, of the longer side of a mosaic's cells
CAPTION_HEIGHT = 26
_NOTHING = (0, 0, 0, 0), np.zeros((0, 0), np.bool_)  # rectangle and crop of a mask without a pixel


def draw_truth(dataset: Dataset, index: int, image: Picture, *, boxes: bool = True, labels: bool = True) -> Picture:
    """The objects of an image on top of it; crowds are classes of their own."""
    return overlay.draw(
        image, truth_instances(dataset, index), overlay.DrawStyle(boxes=boxes, labels=labels, scores=False)
    )


def truth_instances(dataset: Dataset, index: int) -> Instances:
    """The objects of an image; its crowds come as classes of their own, behind the data set's."""
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
    """One image's COCO results -> Instances, best first. A result without a mask has an empty one."""
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
    """Results of at least a score, by image id."""
    found = defaultdict(list)
    for result in results:
        if result["score"] >= score_threshold:
            found[int(result["image_id"])].append(result)
    return found


def beside(left: Picture, right: Picture, captions: tuple[str, str]) -> Picture:
    """Two pictures of one size side by side, each under its caption."""
    gap = np.full((left.shape[0] + CAPTION_HEIGHT, GAP, 3), BACKGROUND, np.uint8)
    return np.hstack([_captioned(left, captions[0]), gap, _captioned(right, captions[1])])


def mosaic(pictures: Sequence[Picture]) -> Picture:
    """Pictures of any size in a square grid."""
    largest = [max(one.shape[axis] for one in pictures) for axis in (0, 1)]
    longer = max(largest)
    height, width = (max(round(side * min(max(longer, LEAST_SIDE), MOST_SIDE) / longer), 1) for side in largest)
    return contact_sheet(pictures, math.ceil(math.sqrt(len(pictures))), (height, width))


def encode(picture: Picture, suffix: str) -> bytes:
    """A picture as the content of a .jpg or .png file."""
    done, content = cv2.imencode(suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done, picture.shape
    return content.tobytes()


def _captioned(picture: Picture, caption: str) -> Picture:
    strip = np.full((CAPTION_HEIGHT, picture.shape[1], 3), BACKGROUND, np.uint8)
    text = caption.encode("ascii", "replace").decode()
    cv2.putText(strip, text, (6, 18), overlay.FONT, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([strip, picture])

# SPDX-License-Identifier: Apache-2.0
"""Pictures of discs, each in a colour of its own, and a pipeline that finds each colour exactly, as no network does."""

from __future__ import annotations

import cv2
import numpy as np

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.closing import Closing
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.frame import StageTimes
from centermask_runtime.selection import Selection
from centermask_runtime.spec import ModelSpec

SPEC = ModelSpec("discs", ("even", "odd"), (3, 5), (64, 64), (0, 0, 0), (1, 1, 1))
LARGEST = 1000  # pixels of an object whose score is the highest: a part scores lower than the whole


def disc_picture(frame_hw: tuple[int, int], discs: list[tuple[int, int, int]]) -> np.ndarray:
    """Discs (x, y, radius) on black; disc n, from 1 on, has the colour n. One that comes near another is left out."""
    picture = np.zeros((*frame_hw, 3), np.uint8)
    for number, (x, y, radius) in enumerate(discs, 1):
        alone = cv2.circle(np.zeros(frame_hw, np.uint8), (x, y), radius, 1, -1).astype(bool)
        near = cv2.dilate(alone.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
        if not picture[near].any():
            picture[alone] = (number & 255, number >> 8, 1)
    return picture


def colour_masks(picture: np.ndarray) -> dict[int, np.ndarray]:
    """Of each colour that is there its pixels, bool [H, W]."""
    numbers = picture[:, :, 0].astype(int) | picture[:, :, 1].astype(int) << 8
    return {number: numbers == number for number in np.unique(numbers).tolist() if number}


class ExactPipeline(Closing):
    """A FramePipeline that finds the colours of a picture. shift: by how much it errs, at most, drawn for each call."""

    draws, description = False, "exact"

    def __init__(self, selection=None, shift=0, seed=0):
        self.spec, self.selection = SPEC, Selection.of(SPEC) if selection is None else selection
        self.shift, self.rng = shift, np.random.default_rng(seed)
        self.sizes, self.closed = [], False

    def __call__(self, frame):
        self.sizes.append(frame.shape[:2])
        found = [(number, self._erring(mask)) for number, mask in colour_masks(frame).items()]
        found = [(number, mask) for number, mask in found if mask.any()]
        rects, crops = [], []
        for _, mask in found:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            rects.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
            crops.append(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        rects = np.array(rects, np.int32).reshape(-1, 4)
        scores = np.array([min(0.3 + 0.6 * crop.sum() / LARGEST, 0.9) for crop in crops], np.float32)
        labels = np.array([number % 2 for number, _ in found], np.int32)
        masks = BoxMasks.from_crops(frame.shape[:2], rects, crops)
        instances = Instances(
            frame.shape[:2], rects.astype(np.float32), scores, labels, masks, self.spec.class_names,
            self.spec.category_ids,
        )  # fmt: skip
        return instances.best_first()

    def _erring(self, mask):
        if not self.shift:
            return mask
        x, y = self.rng.integers(-self.shift, self.shift + 1, 2).tolist()
        moved = np.zeros_like(mask)
        height, width = mask.shape
        moved[max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = mask[
            max(-y, 0) : height + min(-y, 0), max(-x, 0) : width + min(-x, 0)
        ]
        return moved

    def each(self, frames, *, ahead=False):
        return map(self, frames)

    def many(self, frames):
        return [self(frame) for frame in frames]

    def timed(self, frame):
        return self(frame), StageTimes(0, 0, 0, 0)

    def close(self):
        self.closed = True

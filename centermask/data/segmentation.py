# SPDX-License-Identifier: Apache-2.0
"""Masks in any of COCO's forms become compressed run lengths, and these the pixels in a rectangle; by pycocotools.

Masks must be sound: checks.check_mask says whether one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

Runs = dict[str, Any]  # {"size": [H, W], "counts": COCO's string}
Rect = tuple[int, int, int, int]  # x0, y0, x1, y1 in whole pixels, x1 and y1 excluded


def as_runs(segmentation: Sequence[Any] | dict[str, Any], size_hw: tuple[int, int]) -> Runs:
    """Turns polygons, of which the mask is the union, or run lengths as list or string into compressed run lengths."""
    if not isinstance(segmentation, dict):
        merged: Runs = coco_mask.merge(coco_mask.frPyObjects(list(segmentation), *size_hw))
        return merged
    if isinstance(segmentation["counts"], list):
        compressed: Runs = coco_mask.frPyObjects(segmentation, *size_hw)
        return compressed
    return segmentation


def tight_crop(runs: Runs) -> tuple[Rect, NDArray[np.bool_]] | None:
    """Returns the rectangle around a mask's pixels and the mask in it, bool [h, w]; None for a mask without a pixel."""
    by_column = coco_mask.decode(runs).T  # uint8 [W, H], contiguous: COCO runs go down the columns
    y0, x0, height, width = cv2.boundingRect(by_column)
    if not height or not width:
        return None
    crop = np.ascontiguousarray(by_column[x0 : x0 + width, y0 : y0 + height].T)
    return (x0, y0, x0 + width, y0 + height), crop.view(np.bool_)

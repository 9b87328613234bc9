# SPDX-License-Identifier: Apache-2.0
"""ObjectMasks from whole masks and back, for tests that compare them."""

from __future__ import annotations

import numpy as np

from centermask.data.dataset import ObjectMask


def tight(mask: np.ndarray, label: int = 0, crowd: bool = False) -> ObjectMask:
    """A mask bool [H, W] of at least one pixel as an object."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    rect = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return ObjectMask(label, rect, mask[rect[1] : rect[3], rect[0] : rect[2]].copy(), crowd)


def rectangle(x0: int, y0: int, x1: int, y1: int, label: int = 0, crowd: bool = False) -> ObjectMask:
    return ObjectMask(label, (x0, y0, x1, y1), np.ones((y1 - y0, x1 - x0), np.bool_), crowd)


def canvas_of(one: ObjectMask, canvas_hw: tuple[int, int]) -> np.ndarray:
    """An object as a mask bool [H, W]."""
    full = np.zeros(canvas_hw, np.bool_)
    x0, y0, x1, y1 = one.rect
    full[y0:y1, x0:x1] = one.crop
    return full

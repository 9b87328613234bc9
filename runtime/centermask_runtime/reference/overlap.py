# SPDX-License-Identifier: Apache-2.0
"""How much two boxes or two masks have in common: intersection over union (IoU), from 0 to 1.

Boxes are continuous, masks are counted in pixels. Only pixels where two rectangles meet are looked at, so masks of a
frame that lie apart cost nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.box_masks import BoxMasks


def box_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Boxes xyxy [N, 4], [M, 4] -> IoU [N, M]; 0 where both are of no area."""
    one, other = a[:, None].astype(np.float64), b[None].astype(np.float64)
    edges = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    common = edges.clip(min=0).prod(axis=-1)
    area = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (one, other)]
    return _ratio(common, area[0] + area[1] - common)


def mask_iou(a: BoxMasks, b: BoxMasks) -> NDArray[np.float64]:
    """N masks and M masks of one frame -> IoU [N, M]; 0 where both are empty."""
    common = np.zeros((len(a), len(b)), np.float64)
    low = np.maximum(a.rects[:, None, :2], b.rects[None, :, :2])
    high = np.minimum(a.rects[:, None, 2:], b.rects[None, :, 2:])
    meet: NDArray[np.bool_] = np.all(low < high, axis=-1)
    crops_a = {row: a.crop(row) for row in np.flatnonzero(meet.any(axis=1)).tolist()}
    crops_b = {column: b.crop(column) for column in np.flatnonzero(meet.any(axis=0)).tolist()}
    for row, column in np.argwhere(meet).tolist():
        region = *low[row, column].tolist(), *high[row, column].tolist()
        part_a, part_b = _part(crops_a[row], a.rects[row], region), _part(crops_b[column], b.rects[column], region)
        common[row, column] = np.count_nonzero(part_a & part_b)
    return _ratio(common, a.areas()[:, None] + b.areas()[None] - common)


def pair_mask_iou(a: BoxMasks, row_a: int, b: BoxMasks, row_b: int) -> float:
    """IoU of one mask and another of the same frame; 1 where both are empty, as they are equal."""
    one, other = a.select(np.array([row_a])), b.select(np.array([row_b]))
    if not one.areas()[0] and not other.areas()[0]:
        return 1.0
    return float(mask_iou(one, other)[0, 0])


def _part(crop: NDArray[np.bool_], rect: NDArray[np.int32], region: tuple[int, ...]) -> NDArray[np.bool_]:
    """What the crop at `rect` has in the region x0, y0, x1, y1 of the frame, which is inside `rect`."""
    left, top = int(rect[0]), int(rect[1])
    x0, y0, x1, y1 = region
    return crop[y0 - top : y1 - top, x0 - left : x1 - left]


def _ratio(common: NDArray[np.float64], union: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))

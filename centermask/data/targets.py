# SPDX-License-Identifier: Apache-2.0
"""Targets: what the heads should say about one training image, from its objects' full-resolution masks.

Affine maps here only scale, flip and turn by quarters (see augment/affine.py): a source column is a canvas column or
row, never a slope. So every mask is sampled exactly, at the source pixel that contains the point, by indexing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from centermask.data.augment.affine import Affine, inverse_affine, map_rects, show_mask, source_axes
from centermask.data.dataset import ObjectMask
from centermask.data.segmentation import Rect

MIN_SIDE = 2.0  # canvas pixels: a smaller box is no target
MIN_VISIBLE = 0.15  # part of the mask that must be on the canvas
MIN_OVERLAP = 0.7  # of CornerNet's radius: a box moved by it still overlaps the true one by this IoU


@dataclass(frozen=True)
class Targets:
    """The targets of one image with C classes, Cs saliency channels, n objects and h x w cells; M is the mask grid.

    heatmap           float32 [C, h, w]   1 at the cell of each centre, a Gaussian around it
    saliency          float32 [Cs, h, w]  part of the cell that objects of the class cover, 0..1
    saliency_present  bool [Cs]           the class has an object here; always True for one class-agnostic channel
    labels            int64 [n]
    cells             int64 [n, 2]        y, x
    offsets           float32 [n, 2]      x, y: centre in cells minus the cell, 0..1
    sizes             float32 [n, 2]      width, height in cells
    boxes             float32 [n, 4]      xyxy, canvas pixels, inside the canvas
    masks             float32 [n, M, M]   mask at the centres of an M x M grid over the box, 0..1
    """

    heatmap: NDArray[np.float32]
    saliency: NDArray[np.float32]
    saliency_present: NDArray[np.bool_]
    labels: NDArray[np.int64]
    cells: NDArray[np.int64]
    offsets: NDArray[np.float32]
    sizes: NDArray[np.float32]
    boxes: NDArray[np.float32]
    masks: NDArray[np.float32]


def make_targets(
    objects: Sequence[ObjectMask],
    affine: Affine,
    canvas_hw: tuple[int, int],
    *,
    num_classes: int,
    saliency_channels: int,
    stride: int,
    mask_grid: int,
) -> Targets:
    """Makes the targets of objects as seen through `affine`, source pixels -> canvas pixels.

    A crowd counts for the saliency and is no target of its own. Nor is an object that hardly shows: a box under
    MIN_SIDE or a mask of which less than MIN_VISIBLE is on the canvas. Cut objects get the box of what remains.
    """
    grid_hw = canvas_hw[0] // stride, canvas_hw[1] // stride
    kept, boxes = _visible(objects, affine, canvas_hw)
    labels = np.array([one.label for one in kept], np.int64)
    centres = (boxes[:, :2] + boxes[:, 2:]) / (2 * stride)
    cells_xy = np.minimum(np.floor(centres), np.array(grid_hw[::-1]) - 1)
    sizes = (boxes[:, 2:] - boxes[:, :2]) / stride
    cells = np.ascontiguousarray(cells_xy[:, ::-1]).astype(np.int64)
    saliency, present = _saliency(objects, affine, grid_hw, saliency_channels, stride)
    return Targets(
        heatmap=_heatmap(labels, cells, sizes, (num_classes, *grid_hw)),
        saliency=saliency,
        saliency_present=present,
        labels=labels,
        cells=cells,
        offsets=(centres - cells_xy).astype(np.float32),
        sizes=sizes.astype(np.float32),
        boxes=boxes.astype(np.float32),
        masks=_grid_masks(kept, boxes, affine, mask_grid),
    )


def gaussian_radius(height: float, width: float) -> int:
    """Returns the radius in cells around the centre of a box of height x width cells (CornerNet, section 3.3).

    In the form of CenterNet's code, which divides by 2 where the roots want 2a; weights trained with it expect it.
    """
    a, b, c = (
        (1, height + width, width * height * (1 - MIN_OVERLAP) / (1 + MIN_OVERLAP)),
        (4, 2 * (height + width), (1 - MIN_OVERLAP) * width * height),
        (4 * MIN_OVERLAP, -2 * MIN_OVERLAP * (height + width), (MIN_OVERLAP - 1) * width * height),
    )
    return max(0, int(min((b_ + sqrt(max(b_ * b_ - 4 * a_ * c_, 0))) / 2 for a_, b_, c_ in (a, b, c))))


@lru_cache(maxsize=512)
def _gaussian(radius: int) -> NDArray[np.float32]:
    sigma = (2 * radius + 1) / 6
    line = np.exp(-np.square(np.arange(-radius, radius + 1)) / (2 * sigma * sigma))
    return np.outer(line, line).astype(np.float32)


def _heatmap(
    labels: NDArray[np.int64], cells: NDArray[np.int64], sizes: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    heatmap = np.zeros(shape, np.float32)
    _, height, width = shape
    for label, (y, x), (w, h) in zip(labels.tolist(), cells.tolist(), sizes.tolist(), strict=True):
        r = gaussian_radius(h, w)
        y0, y1, x0, x1 = max(y - r, 0), min(y + r + 1, height), max(x - r, 0), min(x + r + 1, width)
        patch = heatmap[label, y0:y1, x0:x1]
        np.maximum(patch, _gaussian(r)[y0 - y + r : y1 - y + r, x0 - x + r : x1 - x + r], out=patch)
    return heatmap


def _visible(
    objects: Sequence[ObjectMask], affine: Affine, canvas_hw: tuple[int, int]
) -> tuple[list[ObjectMask], NDArray[np.float64]]:
    """Returns the objects that are targets and their boxes [n, 4] on the canvas."""
    singles = [one for one in objects if not one.crowd]
    limit = np.array(canvas_hw[::-1] * 2, np.float64)
    boxes = map_rects(np.array([one.rect for one in singles], np.float64).reshape(-1, 4), affine)
    clipped = np.clip(boxes, 0, limit)
    window = map_rects(np.array([[0.0, 0.0, *limit[:2]]]), inverse_affine(affine))[0]  # the canvas in source pixels
    for index in np.flatnonzero((clipped != boxes).any(1)):
        remaining = _tight_part(singles[index], window)
        part = np.array([remaining or (0, 0, 0, 0)], np.float64)
        clipped[index] = np.clip(map_rects(part, affine)[0], 0, limit) if remaining else 0
    keep = np.flatnonzero((clipped[:, 2:] - clipped[:, :2]).min(1, initial=np.inf) >= MIN_SIDE)
    return [singles[index] for index in keep], clipped[keep]


def _tight_part(one: ObjectMask, window: NDArray[np.float64]) -> Rect | None:
    """Returns the rectangle around a mask's pixels whose centres lie in a window [4], or None when too few do."""
    x0, y0, x1, y1 = one.rect
    left, top, right, bottom = np.ceil(window - 0.5).clip((x0, y0, x0, y0), (x1, y1, x1, y1)).astype(int).tolist()
    seen = one.crop[top - y0 : bottom - y0, left - x0 : right - x0]
    if np.count_nonzero(seen) < max(MIN_VISIBLE * np.count_nonzero(one.crop), 1):
        return None
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1


def _saliency(
    objects: Sequence[ObjectMask], affine: Affine, grid_hw: tuple[int, int], channels: int, stride: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    saliency = np.zeros((channels, *grid_hw), np.float32)
    present = np.zeros(channels, np.bool_) if channels > 1 else np.ones(1, np.bool_)
    for channel in {one.label for one in objects} if channels > 1 else range(min(len(objects), 1)):
        members = [one for one in objects if channels == 1 or one.label == channel]
        rects = np.array([one.rect for one in members])
        x0, y0 = rects[:, :2].min(0).tolist()
        x1, y1 = rects[:, 2:].max(0).tolist()
        union = np.zeros((y1 - y0 + 2, x1 - x0 + 2), np.bool_)  # an empty border stands for everything outside
        for one in members:
            left, top, right, bottom = one.rect
            union[top - y0 + 1 : bottom - y0 + 1, left - x0 + 1 : right - x0 + 1] |= one.crop
        canvas_region = (0, 0, grid_hw[1] * stride, grid_hw[0] * stride)
        canvas = show_mask(union, (x0 - 1, y0 - 1), affine, canvas_region).view(np.uint8)
        rows = np.add.reduce([canvas[row::stride] for row in range(stride)], dtype=np.uint8)
        covered = np.add.reduce([rows[:, column::stride] for column in range(stride)], dtype=np.uint16)
        saliency[channel] = covered / np.float32(stride * stride)
        present[channel] = True
    return saliency, present


def _grid_masks(
    objects: Sequence[ObjectMask], boxes: NDArray[np.float64], affine: Affine, grid: int
) -> NDArray[np.float32]:
    """Masks at the centres of a grid over each box [n, M, M]. Along an axis on which the source is finer than the grid
    two points per grid step are averaged, a quarter of a step either side of its centre."""
    if not len(objects):
        return np.zeros((0, grid, grid), np.float32)
    turned, slope, offset = source_axes(affine)
    rects = np.array([one.rect for one in objects])
    widths = rects[:, 2] - rects[:, 0]
    flat = np.concatenate([one.crop.ravel() for one in objects])
    starts = np.cumsum([0, *(one.crop.size for one in objects[:-1])])
    steps = np.array((np.ones_like(widths), widths))  # in `flat`, to the next source column and row
    index = {}  # canvas axis -> part of the index into `flat`, [2 samples, n, M]
    for axis in (0, 1):  # of the source
        canvas_axis = 1 - axis if turned else axis
        low, high = boxes[:, canvas_axis], boxes[:, canvas_axis + 2]
        fine = abs(slope[axis]) * (high - low) > grid
        apart = np.where(fine, 0.25, 0.0)[:, None] * np.array([[[-1.0]], [[1.0]]])  # [2, n, 1]
        at = (np.arange(grid) + 0.5 + apart) / grid  # [2, n, M], 0..1
        source = slope[axis] * (low[:, None] + at * (high - low)[:, None]) + offset[axis]
        pixel = (np.floor(source) - rects[:, axis, None]).clip(0, (rects[:, axis + 2] - rects[:, axis])[:, None] - 1)
        index[canvas_axis] = pixel.astype(np.intp) * steps[axis][:, None]
    total = np.zeros((len(objects), grid, grid), np.uint8)
    for across in index[0]:
        for down in index[1] + starts[:, None]:
            total += flat[down[:, :, None] + across[:, None, :]]
    return np.divide(total, 4, dtype=np.float32)

# SPDX-License-Identifier: Apache-2.0
"""Masks from local shapes and global saliency: what a pixel's value is, and the CPU path that computes it.

An object's mask is sigma(shape) times sigma(saliency) inside its box (CenterMask, section 3.3, equation 2). Here every
pixel of the source frame inside the box is sampled once from both small maps:

    pixel       (j, i) belongs to the box when its centre (j + 0.5, i + 0.5) does: x1 <= centre < x2, so columns are
                [ceil(x1 - 0.5), ceil(x2 - 0.5)) and rows likewise, cut at the frame's edges. The box itself is not cut.
    shape       u = ((px - x1) / (x2 - x1)) * S - 0.5 in cells of the S x S map, clamped to [0, S - 1]
    saliency    u = (px * scale + offset) / stride - 0.5 in cells of the object's class (of the only channel if there
                is one), clamped likewise
    bilinear    columns first, then rows: t = a + (b - a) * g with a = m[i, floor(u)], b = its right neighbour (the last
                column is its own neighbour) and g = u - floor(u); then t0 + (t1 - t0) * f of two rows
    mask        value = shape * saliency; true where value >= threshold

The sigmoid comes before the sampling, as in training. All numbers are float32 and each operation above is one IEEE
operation in the order written, so an executor without fused multiply-add gives equal bits.

A box that has no pixel centre in the frame (outside it, of no area, inverted, or with a NaN or infinite edge) has the
rectangle 0, 0, 0, 0 and an empty mask. NaN logits count as probability 0.

slow_mask is these words as a loop over the pixels; box_masks, and the kernel in masks.cu, give the same masks fast.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.geometry import Letterbox
from centermask_runtime.reference.sigmoid import sigmoid

STRIP = 1 << 16  # pixels sampled at a time: the buffers of a strip stay in the second-level cache
HALF = np.float32(0.5)


def pixel_rects(boxes_xyxy: NDArray[np.float32], frame_hw: tuple[int, int]) -> NDArray[np.int32]:
    """Boxes float32 [K, 4] in source pixels -> int32 [K, 4]: x0, y0, x1, y1 of the pixels whose centres are inside."""
    height, width = frame_hw
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    finite = np.isfinite(boxes).all(axis=1, keepdims=True)
    first = np.ceil(np.where(finite, boxes, np.float32(0)) - HALF)
    rects = np.clip(first, 0, np.array([width, height, width, height], np.float32)).astype(np.int32)
    rects[(rects[:, 0] >= rects[:, 2]) | (rects[:, 1] >= rects[:, 3])] = 0
    return rects


def slow_mask(
    box_xyxy: NDArray[np.float32],
    label: int,
    shape: NDArray[np.float32],
    saliency: NDArray[np.float32],
    letterbox: Letterbox,
    stride: int,
    threshold: float,
) -> NDArray[np.bool_]:
    """The definition: the mask of one object on the whole frame, bool [H, W]. The arguments are box_masks' for one."""
    f32 = np.float32
    cells, area = sigmoid(shape), sigmoid(saliency[label if len(saliency) > 1 else 0])
    x1, y1, x2, y2 = (f32(edge) for edge in box_xyxy)
    (scale_x, scale_y), (offset_x, offset_y) = np.array(letterbox.scale_xy, f32), np.array(letterbox.offset_xy, f32)
    mask = np.zeros(letterbox.frame_hw, np.bool_)
    for i, j in np.ndindex(*letterbox.frame_hw):
        px, py = f32(j) + HALF, f32(i) + HALF
        if x1 <= px < x2 and y1 <= py < y2:
            u, v = ((p - low) / (high - low) * f32(len(cells)) - HALF for p, low, high in ((px, x1, x2), (py, y1, y2)))
            s, t = (px * scale_x + offset_x) / f32(stride) - HALF, (py * scale_y + offset_y) / f32(stride) - HALF
            mask[i, j] = _bilinear(cells, u, v) * _bilinear(area, s, t) >= f32(threshold)
    return mask


def _bilinear(cells: NDArray[np.float32], u: np.float32, v: np.float32) -> np.float32:
    """The map [h, w] at column u and row v, both clamped: columns first, then rows."""
    u, v = (
        min(max(at, np.float32(0)), np.float32(size - 1)) for at, size in ((u, cells.shape[1]), (v, cells.shape[0]))
    )
    j, i = int(u), int(v)
    g, f = u - np.float32(j), v - np.float32(i)
    right, below = min(j + 1, cells.shape[1] - 1), min(i + 1, cells.shape[0] - 1)
    upper = cells[i, j] + (cells[i, right] - cells[i, j]) * g
    lower = cells[below, j] + (cells[below, right] - cells[below, j]) * g
    return np.float32(upper + (lower - upper) * f)


def box_masks(
    boxes_xyxy: NDArray[np.float32],
    labels: NDArray[np.integer],
    shapes: NDArray[np.float32],
    saliency: NDArray[np.float32],
    letterbox: Letterbox,
    stride: int,
    threshold: float,
) -> BoxMasks:
    """Masks of K objects of one frame.

    boxes_xyxy [K, 4] source pixels, not clipped; labels [K]; shapes [K, S, S] logits; saliency [1 or C, gh, gw] logits
    of the whole network input; stride in input pixels per saliency cell; threshold on the product of the probabilities.
    """
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    size = shapes.shape[-1]
    assert len(boxes) == len(labels) == len(shapes) and shapes.shape[1:] == (size, size), (boxes.shape, shapes.shape)
    assert saliency.ndim == 3, saliency.shape
    frame_hw = letterbox.frame_hw
    rects = pixel_rects(boxes, frame_hw)
    packed = [np.zeros((0, 0), np.uint8)] * len(boxes)
    seen = np.flatnonzero(rects[:, 2] > rects[:, 0])
    if not len(seen):
        return BoxMasks(frame_hw, rects, tuple(packed))
    channels = np.asarray(labels)[seen] if len(saliency) > 1 else np.zeros(len(seen), np.int64)
    assert channels.min() >= 0 and channels.max() < len(saliency), (channels, saliency.shape)
    rects_seen = rects[seen]
    # Whole bytes of packed bits: up to 7 columns beyond the box are sampled too and cut off at the end.
    widths = (rects_seen[:, 2] - rects_seen[:, 0] + 7) // 8 * 8
    heights = rects_seen[:, 3] - rects_seen[:, 1]
    (scale_x, scale_y), (offset_x, offset_y) = letterbox.scale_xy, letterbox.offset_xy
    across = _frame_taps(frame_hw[1] + 7, scale_x, offset_x, stride, saliency.shape[2])
    down = _frame_taps(frame_hw[0], scale_y, offset_y, stride, saliency.shape[1])
    columns = _box_taps(boxes[seen, 0], boxes[seen, 2], rects_seen[:, 0], widths, size)
    rows = _box_taps(boxes[seen, 1], boxes[seen, 3], rects_seen[:, 1], heights, size)
    shape_maps = sigmoid(shapes[seen])
    shape_steps = _steps(shape_maps)
    regions = _saliency_regions(saliency, channels, rects_seen, across, down)
    shape, area = _Stretch(), _Stretch()
    limit = np.float32(threshold)
    for n, (index, (x0, y0, x1, y1), width, height) in enumerate(
        zip(seen.tolist(), rects_seen.tolist(), widths.tolist(), heights.tolist(), strict=True)
    ):
        shape.columns(shape_maps[n], shape_steps[n], columns[n], rows[n], 0)
        cells, steps, left, top = regions[n]
        across_box = _Taps(across.cell[x0 : x0 + width] - left, across.part[x0 : x0 + width])
        area.columns(cells, steps, across_box, _Taps(down.cell[y0:y1], down.part[y0:y1]), top)
        packed[index] = _threshold_product(shape, area, limit, x1 - x0, height)
    return BoxMasks(frame_hw, rects, tuple(packed))


class _Taps(NamedTuple):
    """Where samples fall on one axis of a small map: the cell on the left or above, and how far beyond it."""

    cell: NDArray[np.intp]
    part: NDArray[np.float32]


def _taps(u: NDArray[np.float32], cells: int) -> _Taps:
    np.clip(u, np.float32(0), np.float32(cells - 1), out=u)
    floor = np.floor(u)
    return _Taps(floor.astype(np.intp), u - floor)


def _frame_taps(pixels: int, scale: float, offset: int, stride: int, cells: int) -> _Taps:
    """Saliency taps of every pixel of one frame axis: they depend on the pixel only, not on the object."""
    centres = np.arange(pixels, dtype=np.float32) + HALF
    return _taps((centres * np.float32(scale) + np.float32(offset)) / np.float32(stride) - HALF, cells)


def _box_taps(
    low: NDArray[np.float32], high: NDArray[np.float32], first: NDArray[np.int32], lengths: NDArray[np.int32], size: int
) -> list[_Taps]:
    """Shape taps of each box on one axis."""
    ends = np.cumsum(lengths)
    centres = (np.arange(ends[-1]) - np.repeat(ends - lengths - first, lengths)).astype(np.float32) + HALF
    with np.errstate(over="ignore"):  # a box wider than the largest float32: its width is infinite, u is -0.5
        extent = high - low
    u = (centres - np.repeat(low, lengths)) / np.repeat(extent, lengths) * np.float32(size) - HALF
    taps = _taps(np.asarray(u, np.float32), size)
    return [_Taps(taps.cell[end - n : end], taps.part[end - n : end]) for end, n in zip(ends, lengths, strict=True)]


def _steps(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Right neighbour minus cell, same shape. In the last column it is anything finite: samples there have part 0."""
    flat = maps.reshape(-1)
    return np.append(flat[1:] - flat[:-1], np.float32(0)).reshape(maps.shape)


class _Region(NamedTuple):
    cells: NDArray[np.float32]  # sigma(saliency)
    steps: NDArray[np.float32]
    left: int
    top: int


def _saliency_regions(
    logits: NDArray[np.float32], channels: NDArray[np.integer], rects: NDArray[np.int32], across: _Taps, down: _Taps
) -> list[_Region]:
    """For each object the cells that it touches: of itself, or of all objects of its class where that is less work."""
    first = np.stack((across.cell[rects[:, 0]], down.cell[rects[:, 1]]), 1)
    end = np.stack((across.cell[rects[:, 2] - 1], down.cell[rects[:, 3] - 1]), 1) + 2  # a cell and its neighbour
    end = np.minimum(end, (logits.shape[2], logits.shape[1]))
    for channel in np.unique(channels):
        mine = channels == channel
        low, high = first[mine].min(axis=0), end[mine].max(axis=0)
        if (high - low).prod() < (end[mine] - first[mine]).prod(axis=1).sum():
            first[mine], end[mine] = low, high
    keys = list(zip(channels.tolist(), *first.T.tolist(), *end.T.tolist(), strict=True))
    crops = {key: logits[key[0], key[2] : key[4], key[1] : key[3]] for key in keys}
    cells = sigmoid(np.concatenate([crop.ravel() for crop in crops.values()]))
    steps = _steps(cells)
    regions, start = {}, 0
    for key, crop in crops.items():
        part = slice(start, start := start + crop.size)
        regions[key] = _Region(cells[part].reshape(crop.shape), steps[part].reshape(crop.shape), key[1], key[2])
    return [regions[key] for key in keys]


class _Buffer:
    """A flat array that grows and is used again, so that no object allocates."""

    def __init__(self) -> None:
        self._flat: NDArray[np.float32] = np.empty(0, np.float32)

    def get(self, rows: int, width: int) -> NDArray[np.float32]:
        if self._flat.size < rows * width:
            self._flat = np.empty(rows * width, np.float32)
        return self._flat[: rows * width].reshape(rows, width)


class _Stretch:
    """Stretches one small map after another to boxes: all columns at once, then the rows strip by strip."""

    def __init__(self) -> None:
        self._stretched, self._steps, self._sampled, self._scratch = (_Buffer() for _ in range(4))

    def columns(
        self, cells: NDArray[np.float32], steps: NDArray[np.float32], columns: _Taps, rows: _Taps, top: int
    ) -> None:
        """cells, steps [h, w] begin at row `top` of the map. Only rows that the box touches are stretched."""
        first = int(rows.cell[0])
        used = slice(first - top, int(rows.cell[-1]) - top + 2)
        cells, steps = cells[used], steps[used]
        shape = len(cells), len(columns.cell)
        stretched, down = self._stretched.get(*shape), self._steps.get(*shape)
        steps.take(columns.cell, axis=1, out=stretched, mode="clip")
        np.multiply(stretched, columns.part, out=stretched)
        cells.take(columns.cell, axis=1, out=down, mode="clip")
        np.add(down, stretched, out=stretched)
        np.subtract(stretched[1:], stretched[:-1], out=down[:-1])
        down[-1] = 0
        self.stretched, self.down = stretched, down
        self.cell = rows.cell - first
        self.part = rows.part[:, None]

    def rows(self, first: int, end: int) -> NDArray[np.float32]:
        """Rows first..end of the box at full size [end - first, width]; the next call reuses the array."""
        cell = self.cell[first:end]
        shape = end - first, self.stretched.shape[1]
        sampled, scratch = self._sampled.get(*shape), self._scratch.get(*shape)
        self.down.take(cell, axis=0, out=sampled, mode="clip")
        np.multiply(sampled, self.part[first:end], out=sampled)
        self.stretched.take(cell, axis=0, out=scratch, mode="clip")
        return np.add(scratch, sampled, out=sampled)


def _threshold_product(
    shape: _Stretch, area: _Stretch, limit: np.float32, width: int, height: int
) -> NDArray[np.uint8]:
    """The packed mask uint8 [height, ceil(width / 8)]. The stretched maps are whole bytes wide; the rest is cut."""
    padded = shape.stretched.shape[1]
    strip = max(STRIP // padded, 1)
    strips = []
    for first in range(0, height, strip):
        end = min(first + strip, height)
        values = shape.rows(first, end)
        np.multiply(values, area.rows(first, end), out=values)
        strips.append(np.packbits(values >= limit, bitorder="little").reshape(end - first, padded // 8))
    packed = strips[0] if len(strips) == 1 else np.concatenate(strips)
    if width % 8:
        packed[:, -1] &= np.uint8((1 << width % 8) - 1)
    return packed

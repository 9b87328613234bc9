# SPDX-License-Identifier: Apache-2.0
"""COCO run lengths straight from a box crop, equal byte for byte to pycocotools.mask.encode of the whole canvas.

Runs alternate between 0 and 1, beginning with 0, down the columns of the frame. The string holds each run, from the
fourth on as the difference to the run two before, in groups of 5 bits, lowest first, each as one character (value + 48;
32 says that another group follows; bit 16 of the last group is the sign).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError


def encode_crop(crop: NDArray[np.bool_], rect: NDArray[np.integer], frame_hw: tuple[int, int]) -> dict[str, Any]:
    """Mask bool [h, w] at rect (x0, y0, x1, y1) of a frame -> {"size": [H, W], "counts": str}."""
    height, width = frame_hw
    x0, y0 = int(rect[0]), int(rect[1])
    assert crop.size == 0 or (x0 >= 0 <= y0 and x0 + crop.shape[1] <= width and y0 + crop.shape[0] <= height), (
        crop.shape,
        rect,
        frame_hw,
    )
    return {"size": [height, width], "counts": encode_counts(_runs(crop, x0, y0, height, width))}


def _runs(crop: NDArray[np.bool_], x0: int, y0: int, height: int, width: int) -> NDArray[np.int64]:
    """Run lengths int64 [n]. Their edges are found row by row, where memory is contiguous, and then sorted."""
    total = height * width
    if crop.size == 0:
        return np.array([total], np.int64)
    edges = np.empty((crop.shape[0] + 1, crop.shape[1]), np.bool_)
    edges[0] = crop[0]
    np.not_equal(crop[1:], crop[:-1], out=edges[1:-1])
    edges[-1] = crop[-1]
    flat = np.flatnonzero(edges)
    row, column = np.divmod(flat, crop.shape[1])
    position = np.sort((column + x0) * height + (row + y0))
    if crop.shape[0] == height and len(position) > 1:
        # A run that reaches the bottom goes on at the top of the next column: its end and the next start are one place.
        same = position[1:] == position[:-1]
        keep = np.ones(len(position), np.bool_)
        keep[1:] &= ~same
        keep[:-1] &= ~same
        position = position[keep]
    ends = position if len(position) and position[-1] == total else np.append(position, total)
    return np.diff(ends, prepend=0)


def encode_counts(runs: NDArray[np.int64]) -> str:
    """Run lengths int64 [n] -> COCO's string."""
    rest = np.array(runs, np.int64)
    rest[3:] -= runs[1:-2]
    groups: list[NDArray[np.uint8]] = []
    present: list[NDArray[np.bool_]] = []
    alive = np.ones(len(rest), np.bool_)
    while alive.any():
        group = rest & 31
        rest >>= 5
        more = np.where(group & 16, rest != -1, rest != 0) & alive
        groups.append((group + 48 + 32 * more).astype(np.uint8))
        present.append(alive)
        alive = more
    if not groups:
        return ""
    return np.stack(groups, 1)[np.stack(present, 1)].tobytes().decode("ascii")


def decode_counts(counts: str) -> NDArray[np.int64]:
    """COCO's string -> run lengths int64 [n]. Raises DataError when it ends inside a number."""
    groups = np.frombuffer(counts.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if not len(groups):
        return np.zeros(0, np.int64)
    last = (groups & 32) == 0
    if not last[-1] or groups.min() < 0 or groups.max() > 63:
        raise DataError("A run-length string of a mask is damaged: write the annotation file again.")
    starts = np.concatenate(([0], np.flatnonzero(last)[:-1] + 1))
    lengths = np.diff(np.append(starts, len(groups)))
    place = 5 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    runs: NDArray[np.int64] = np.add.reduceat((groups & 31) << place, starts)
    runs -= np.where(groups[last] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def decode(rle: dict[str, Any]) -> NDArray[np.bool_]:
    """{"size": [H, W], "counts": str, bytes or list of runs} -> bool [H, W]. Raises DataError when it is damaged."""
    height, width = rle["size"]
    counts = rle["counts"]
    if isinstance(counts, list):
        runs = np.asarray(counts, np.int64)
    else:
        runs = decode_counts(counts.decode("ascii", "replace") if isinstance(counts, bytes) else counts)
    if (runs < 0).any() or runs.sum() != height * width:
        raise DataError(
            f"A run-length mask of size {height} x {width} covers {runs.sum()} pixels, not {height * width}: "
            "the annotation is damaged."
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)

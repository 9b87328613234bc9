# SPDX-License-Identifier: Apache-2.0
"""Peaks of the heat map and their boxes: the definition of what a graph of level `peaks` computes.

A cell is a peak when no cell among its eight neighbours in the same class has a greater score; equal neighbours are
both peaks, and beyond the border there is nothing. Scores are sigma(logit) in float32, so logits that round to the same
score are equal. A NaN logit is never a peak and is not greater than anything. Peaks are ordered by score, greatest
first, and equal scores by flat index (class, row, column), smallest first. An exported graph may order equal scores
differently.

There are always k rows. When fewer cells are peaks, the rows that remain have score 0, label 0 and cell (0, 0); an
exported graph fills them with other cells of score 0. Whoever reads peaks drops score 0.
(CenterMask, section 3.1; the 3 x 3 maximum instead of suppression is Zhou et al., Objects as Points, section 3.1.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.reference.sigmoid import sigmoid


@dataclass(frozen=True)
class Peaks:
    scores: NDArray[np.float32]  # [K]
    labels: NDArray[np.int32]  # [K]
    cells_yx: NDArray[np.int32]  # [K, 2]


def top_peaks(heatmap: NDArray[np.float32], k: int) -> Peaks:
    """The k best peaks of logits float32 [C, h, w]."""
    classes, height, width = heatmap.shape
    scores = sigmoid(heatmap)  # NaN -> 0
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)))
    greatest = scores.copy()
    for dy in range(3):
        for dx in range(3):
            np.maximum(greatest, padded[:, dy : dy + height, dx : dx + width], out=greatest)
    flat = np.flatnonzero((scores == greatest) & (scores > 0))
    best = scores.ravel()[flat]
    order = np.lexsort((flat, -best))[:k]
    found = len(order)
    peaks = Peaks(np.zeros(k, np.float32), np.zeros(k, np.int32), np.zeros((k, 2), np.int32))
    peaks.scores[:found] = best[order]
    peaks.labels[:found], peaks.cells_yx[:found, 0], peaks.cells_yx[:found, 1] = np.unravel_index(
        flat[order], (classes, height, width)
    )
    return peaks


def decode_boxes(
    cells_yx: NDArray[np.integer], offsets_xy: NDArray[np.float32], sizes_wh: NDArray[np.float32], stride: int
) -> NDArray[np.float32]:
    """Cells [K, 2], offsets [K, 2] from a cell's upper left corner, sizes [K, 2], all in cells -> xyxy float32 [K, 4].

    The boxes are in input pixels. A negative size counts as 0. Boxes may reach beyond the input.
    """
    stride_f = np.float32(stride)
    centres = (np.asarray(cells_yx)[:, ::-1].astype(np.float32) + offsets_xy.astype(np.float32)) * stride_f
    halves = np.maximum(sizes_wh.astype(np.float32), np.float32(0)) * stride_f * np.float32(0.5)
    return np.concatenate((centres - halves, centres + halves), axis=1)

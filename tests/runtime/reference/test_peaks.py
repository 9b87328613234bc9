# SPDX-License-Identifier: Apache-2.0
"""Peaks and boxes against hand-made maps and a loop over cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from centermask_runtime.reference.peaks import decode_boxes, top_peaks
from centermask_runtime.reference.sigmoid import sigmoid


def heatmap(classes, height, width, **cells):
    """Logits of -9 with the given cells, as c0_y1_x2=3.5."""
    logits = np.full((classes, height, width), -9, np.float32)
    for name, value in cells.items():
        c, y, x = (int(part[1:]) for part in name.split("_"))
        logits[c, y, x] = value
    return logits


def slow_peaks(logits):
    """[(score, label, y, x)] of all peaks with a positive score, in order."""
    scores = sigmoid(logits)
    found = []
    for c, y, x in np.ndindex(logits.shape):
        around = scores[c, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if scores[c, y, x] > 0 and scores[c, y, x] >= around.max():
            found.append((scores[c, y, x], c, y, x))
    return sorted(found, key=lambda peak: (-peak[0], *peak[1:]))


def rows(peaks):
    return [(s, c, y, x) for s, c, (y, x) in zip(peaks.scores, peaks.labels, peaks.cells_yx, strict=True)]


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=7),
        elements=st.sampled_from([np.nan, np.inf, -np.inf, -3, -1, 0, 0.5, 1, 4]),
    ),
    st.integers(0, 30),
)
def test_peaks_equal_the_loop_over_cells(logits, k):
    expected = slow_peaks(logits)[:k]
    found = top_peaks(logits, k)
    assert rows(found)[: len(expected)] == expected
    assert len(found.scores) == k and not found.scores[len(expected) :].any()


def test_equal_neighbours_are_both_peaks():
    found = top_peaks(heatmap(1, 5, 5, c0_y2_x2=2, c0_y2_x3=2), 2)
    assert found.cells_yx.tolist() == [[2, 2], [2, 3]] and found.scores[0] == found.scores[1]


def test_a_lesser_neighbour_is_no_peak_but_other_classes_do_not_matter():
    found = top_peaks(heatmap(2, 5, 5, c0_y2_x2=2, c0_y3_x3=1, c1_y2_x2=1.5), 2)
    assert found.labels.tolist() == [0, 1] and found.cells_yx.tolist() == [[2, 2], [2, 2]]


def test_equal_scores_come_in_the_order_of_class_row_and_column():
    found = top_peaks(heatmap(2, 9, 9, c1_y0_x0=1, c0_y8_x0=1, c0_y0_x8=1, c0_y0_x4=1), 4)
    assert rows(found) == [(found.scores[0], *cell) for cell in [(0, 0, 4), (0, 0, 8), (0, 8, 0), (1, 0, 0)]]


def test_corners_can_be_peaks():
    found = top_peaks(heatmap(1, 4, 4, c0_y0_x0=3, c0_y3_x3=2), 2)
    assert found.cells_yx.tolist() == [[0, 0], [3, 3]]


def test_nan_is_no_peak_and_does_not_hide_its_neighbour():
    found = top_peaks(heatmap(1, 4, 4, c0_y1_x1=np.nan, c0_y1_x2=0), 1)
    assert found.cells_yx.tolist() == [[1, 2]] and found.scores.tolist() == [0.5]


def test_missing_peaks_have_score_0():
    found = top_peaks(np.full((1, 3, 3), np.nan, np.float32), 2)
    assert found.scores.tolist() == [0, 0]
    assert found.labels.dtype == found.cells_yx.dtype == np.int32


@pytest.mark.parametrize("shape", [(0, 4, 4), (1, 0, 0)])
def test_an_empty_map_has_no_peaks(shape):
    assert not top_peaks(np.zeros(shape, np.float32), 3).scores.any()


def test_boxes_by_hand():
    """Cell (y 2, x 5) + offset (.25, .5) = centre (5.25, 2.5) cells = (21, 10) pixels; 4 x 3 cells = 16 x 12 pixels."""
    found = decode_boxes(
        np.array([[2, 5], [0, 0]]),
        np.array([[0.25, 0.5], [0, 0]], np.float32),
        np.array([[4, 3], [-1, 2]], np.float32),
        4,
    )
    assert found.tolist() == [[13, 4, 29, 16], [0, -4, 0, 4]]
    assert found.dtype == np.float32


def test_no_cells_give_no_boxes():
    assert decode_boxes(np.zeros((0, 2), int), np.zeros((0, 2)), np.zeros((0, 2)), 4).shape == (0, 4)

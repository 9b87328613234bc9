# SPDX-License-Identifier: Apache-2.0
"""Run lengths against pycocotools, byte for byte, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from centermask_runtime.errors import DataError
from centermask_runtime.reference import rle


def assert_equal_to_pycocotools(crop, x0, y0, frame_hw):
    canvas = np.zeros(frame_hw, bool)
    canvas[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
    expected = coco_mask.encode(np.asfortranarray(canvas, np.uint8))
    found = rle.encode_crop(crop, np.array([x0, y0, x0 + crop.shape[1], y0 + crop.shape[0]]), frame_hw)
    assert found == {"size": list(frame_hw), "counts": expected["counts"].decode()}
    np.testing.assert_array_equal(rle.decode(found), canvas)


@st.composite
def crops_in_frames(draw):
    """A random crop anywhere in a frame: often touching edges, often of the frame's full height or width."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    y0 = draw(st.sampled_from([0, draw(st.integers(0, height))]))
    x0 = draw(st.sampled_from([0, draw(st.integers(0, width))]))
    y1 = draw(st.sampled_from([height, draw(st.integers(y0, height))]))
    x1 = draw(st.sampled_from([width, draw(st.integers(x0, width))]))
    density = draw(st.sampled_from([0, 0.05, 0.5, 0.95, 1]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    return rng.random((y1 - y0, x1 - x0)) < density, x0, y0, (height, width)


@given(crops_in_frames())
def test_any_crop_encodes_as_pycocotools_encodes_the_canvas(case):
    assert_equal_to_pycocotools(*case)


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("frame_hw", [(1, 1), (1, 7), (7, 1), (1080, 1920)])
def test_a_uniform_frame(frame_hw, value):
    assert_equal_to_pycocotools(np.full(frame_hw, value), 0, 0, frame_hw)


def test_an_empty_crop_anywhere():
    assert_equal_to_pycocotools(np.zeros((0, 0), bool), 0, 0, (5, 6))
    assert_equal_to_pycocotools(np.zeros((3, 0), bool), 2, 1, (5, 6))


def test_runs_go_on_from_the_bottom_of_a_column_to_the_top_of_the_next():
    crop = np.ones((6, 3), bool)
    crop[0, 1] = False
    assert_equal_to_pycocotools(crop, 2, 0, (6, 8))


def test_large_counts():
    """Runs of millions need five groups of 5 bits, differences of them are negative."""
    frame_hw = (4000, 6000)
    crop = np.zeros((3900, 5000), bool)
    crop[5:100, 3] = crop[100:3000, 2500] = crop[3899, 4999] = True
    assert_equal_to_pycocotools(crop, 900, 50, frame_hw)


@given(st.lists(st.integers(0, 2**40), max_size=30))
def test_counts_survive_the_string(runs):
    np.testing.assert_array_equal(rle.decode_counts(rle.encode_counts(np.array(runs, np.int64))), runs)


def test_bytes_and_plain_lists_decode_too():
    expected = np.array([[0, 1, 0], [0, 1, 1]], bool)
    assert (rle.decode({"size": [2, 3], "counts": [2, 2, 1, 1]}) == expected).all()
    assert (rle.decode(coco_mask.encode(np.asfortranarray(expected, np.uint8))) == expected).all()


@pytest.mark.parametrize("counts", ["", "o", "PPPP", "52n", [3, 1], [7, -1], "é"])
def test_a_damaged_mask_is_a_data_error(counts):
    with pytest.raises(DataError, match="damaged"):
        rle.decode({"size": [2, 3], "counts": counts})

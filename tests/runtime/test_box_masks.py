# SPDX-License-Identifier: Apache-2.0
"""Masks as crops: canvases, run lengths and polygons are the same masks, and moving them loses nothing inside."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.errors import DataError
from centermask_runtime.reference import rle
from tests.runtime.reference.test_polygons import filled

FRAME_HW = (30, 40)


def random_masks(rng, count, frame_hw=FRAME_HW):
    """Any rectangles of the frame, some of them empty, with random pixels."""
    height, width = frame_hw
    x, y = np.sort(rng.integers(0, width + 1, (count, 2))), np.sort(rng.integers(0, height + 1, (count, 2)))
    rects = np.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), axis=1).astype(np.int32)
    crops = [rng.random((y1 - y0, x1 - x0)) < rng.random() for x0, y0, x1, y1 in rects]
    return BoxMasks.from_crops(frame_hw, rects, crops)


@pytest.fixture
def canvases():
    rng = np.random.default_rng(3)
    full = np.zeros((4, *FRAME_HW), bool)
    full[0, 3:12, 5:22] = rng.random((9, 17)) < 0.6
    full[1, :, 30:40] = rng.random((30, 10)) < 0.6
    full[3, 29, 39] = True
    return full


@pytest.fixture
def masks(canvases):
    rects = np.array([(5, 3, 22, 12), (30, 0, 40, 30), (0, 0, 0, 0), (39, 29, 40, 30)], np.int32)
    return BoxMasks.from_crops(
        FRAME_HW, rects, [m[y0:y1, x0:x1] for m, (x0, y0, x1, y1) in zip(canvases, rects, strict=True)]
    )


def test_canvases_are_the_masks(masks, canvases):
    np.testing.assert_array_equal(masks.canvases(), canvases)
    for i in range(4):
        np.testing.assert_array_equal(masks.canvas(i), canvases[i])


def test_areas_count_pixels(masks, canvases):
    assert masks.areas().tolist() == canvases.sum((1, 2)).tolist()
    assert BoxMasks.empty(FRAME_HW).areas().shape == (0,)


def test_rles_equal_pycocotools(masks, canvases):
    expected = [coco_mask.encode(np.asfortranarray(m, np.uint8))["counts"].decode() for m in canvases]
    assert [r["counts"] for r in masks.rles()] == expected


def test_run_lengths_that_are_ready_are_used_and_follow_a_selection(masks):
    runs = tuple(rle.decode_counts(counts["counts"]).astype(np.uint32) for counts in masks.rles())
    ready = dataclasses.replace(masks, runs=runs)
    assert ready.rles() == masks.rles()
    order = np.array([2, 0])
    assert ready.select(order).rles() == masks.select(order).rles() and ready.select(order).runs is not None
    assert ready.moved((1, 0), (30, 41)).rles() == masks.moved((1, 0), (30, 41)).rles()
    assert BoxMasks.concatenate([ready, masks]).rles() == masks.rles() * 2
    blank = (np.array([30 * 40]),) * 4
    assert (
        dataclasses.replace(masks, runs=blank).rles() == [rle.encode_crop(np.zeros((0, 0), bool), (0, 0), FRAME_HW)] * 4
    )


@given(st.integers(0, 10_000))
def test_polygons_are_the_masks(seed):
    masks = random_masks(np.random.default_rng(seed), 4)
    for index, pieces in enumerate(masks.polygons()):
        np.testing.assert_array_equal(filled(pieces, FRAME_HW), masks.canvas(index))


@given(
    st.integers(0, 10_000),
    st.tuples(st.integers(-45, 45), st.integers(-45, 45)),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_moved_masks_are_the_canvases_moved(seed, offset_xy, height, width):
    """Against the canvas put into a field that is wide enough on every side, from which the new frame is cut."""
    masks = random_masks(np.random.default_rng(seed), 3)
    moved = masks.moved(offset_xy, (height, width))
    field = np.zeros((3, 300, 300), bool)
    top, left = 100 + offset_xy[1], 100 + offset_xy[0]
    field[:, top : top + FRAME_HW[0], left : left + FRAME_HW[1]] = masks.canvases()
    np.testing.assert_array_equal(moved.canvases(), field[:, 100 : 100 + height, 100 : 100 + width])
    assert moved.rects.dtype == np.int32 and moved.areas().tolist() == moved.canvases().sum((1, 2)).tolist()


@given(st.integers(0, 10_000), st.tuples(st.integers(0, 9), st.integers(0, 9)))
def test_there_and_back_is_where_it_was(seed, offset_xy):
    masks = random_masks(np.random.default_rng(seed), 3)
    back = masks.moved(offset_xy, (40, 50)).moved((-offset_xy[0], -offset_xy[1]), FRAME_HW)
    np.testing.assert_array_equal(back.canvases(), masks.canvases())


def test_a_mask_of_another_size_than_its_rectangle_is_refused():
    with pytest.raises(DataError, match=r"A mask of \[3, 4\] was given for the rectangle \[0, 0, 3, 4\]"):
        BoxMasks.from_crops(FRAME_HW, np.array([(0, 0, 3, 4)], np.int32), [np.ones((3, 4), bool)])


def test_rectangles_that_fit_neither_the_masks_nor_the_frame_are_refused():
    one = (np.zeros((4, 1), np.uint8),)
    with pytest.raises(DataError, match=r"rects must be whole numbers \[1, 4\], not int32 \[2, 4\]"):
        BoxMasks(FRAME_HW, np.zeros((2, 4), np.int32), one)
    for rect in ((37, 0, 41, 4), (0, 27, 4, 31), (-1, 0, 3, 4)):
        with pytest.raises(DataError, match="A mask lies outside its frame of 40 x 30"):
            BoxMasks(FRAME_HW, np.array([rect], np.int32), one)


def test_it_says_what_it_holds(masks):
    assert repr(masks) == "BoxMasks(4 in 40 x 30)"

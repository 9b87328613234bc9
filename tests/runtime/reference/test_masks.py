# SPDX-License-Identifier: Apache-2.0
"""The mask of a box against slow_mask, the loop over its pixels that defines it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask_runtime.geometry import Letterbox
from centermask_runtime.reference import masks
from centermask_runtime.reference.masks import box_masks, pixel_rects, slow_mask

F = np.float32
FRAME_HW = (37, 53)
LETTERBOX = Letterbox.fit(FRAME_HW, (64, 64))


def random_maps(rng, k, channels, size=7, grid=(16, 16)):
    shapes = rng.normal(0.5, 2, (k, size, size)).astype(F)
    return shapes, rng.normal(0.5, 2, (channels, *grid)).astype(F), rng.integers(0, channels, k)


def assert_equal_to_slow(boxes, seed, channels=2, letterbox=LETTERBOX, threshold=0.3):
    rng = np.random.default_rng(seed)
    boxes = np.array(boxes, F).reshape(-1, 4)
    shapes, saliency, labels = random_maps(rng, len(boxes), channels)
    found = box_masks(boxes, labels, shapes, saliency, letterbox, 4, threshold)
    for k, box in enumerate(boxes):
        with np.errstate(invalid="ignore", over="ignore"):
            expected = slow_mask(box, labels[k], shapes[k], saliency, letterbox, 4, threshold)
        np.testing.assert_array_equal(found.canvas(k), expected, err_msg=str(box))


edges = st.floats(-30, 80, width=32)


@given(st.lists(st.tuples(edges, edges, edges, edges), max_size=4), st.integers(0, 99), st.sampled_from([1, 2]))
def test_masks_equal_the_loop_over_pixels(boxes, seed, channels):
    ordered = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    assert_equal_to_slow(ordered, seed, channels)


@pytest.mark.parametrize("frame_hw", [(20, 61), (64, 64), (3, 90), (1, 1)])
def test_masks_equal_the_loop_for_other_letterboxes(frame_hw):
    height, width = frame_hw
    boxes = [(0, 0, width, height), (-3.3, -2.2, width * 0.7, height + 9), (0.4, 0.4, 0.6, 0.6)]
    assert_equal_to_slow(boxes, 5, letterbox=Letterbox.fit(frame_hw, (64, 64)))


def test_a_tall_box_is_the_same_in_one_strip_and_in_many(monkeypatch):
    boxes = [(2, -5, 50, 60), (10, 3, 22, 36.6)]
    assert_equal_to_slow(boxes, 1)
    monkeypatch.setattr(masks, "STRIP", 100)
    assert_equal_to_slow(boxes, 1)


@pytest.mark.parametrize(
    "box",
    [
        (math.nan, 1, 20, 20),
        (1, 1, 20, math.nan),
        (-math.inf, 1, 20, 20),
        (1, 1, math.inf, 20),
        (5, 5, 5, 20),
        (5, 5, 5, 5),
        (20, 5, 8, 20),
        (5, 20, 20, 5),
        (53, 0, 80, 20),
        (-30, 0, 0, 20),
        (5.6, 5.6, 6.4, 6.4),  # between pixel centres
    ],
)
def test_a_box_without_a_pixel_centre_in_the_frame_has_an_empty_mask(box):
    shapes, saliency, labels = random_maps(np.random.default_rng(0), 2, 2)
    found = box_masks(np.array([box, (1, 1, 9, 9)], F), labels, shapes, saliency, LETTERBOX, 4, 0.0)
    assert found.rects[0].tolist() == [0, 0, 0, 0]
    assert found.crop(0).size == 0
    assert found.crop(1).all() and found.crop(1).shape == (8, 8)


def test_a_box_of_one_pixel_samples_the_middle_of_its_shape():
    shapes = np.full((1, 3, 3), -9, F)
    shapes[0, 1, 1] = 9
    found = box_masks(
        np.array([(7, 8, 8, 9)], F), np.zeros(1, int), shapes, np.full((1, 16, 16), 9, F), LETTERBOX, 4, 0.9
    )
    assert found.rects[0].tolist() == [7, 8, 8, 9]
    assert found.crop(0).tolist() == [[True]]


def test_an_enormous_finite_box_covers_the_frame():
    assert_equal_to_slow([(-3e38, -3e38, 3e38, 3e38), (-1e9, -1e9, 1e9, 1e9)], 3)


def test_no_objects_give_no_masks():
    found = box_masks(
        np.zeros((0, 4), F), np.zeros(0, int), np.zeros((0, 7, 7), F), np.zeros((1, 16, 16), F), LETTERBOX, 4, 0.5
    )
    assert len(found) == 0 and found.rects.shape == (0, 4)


def test_nan_logits_are_outside_the_mask():
    shapes = np.full((1, 8, 8), 20, F)
    saliency = np.full((1, 16, 16), 20, F)
    shapes[0, :, :4] = np.nan
    found = box_masks(np.array([(0, 0, 40, 30)], F), np.zeros(1, int), shapes, saliency, LETTERBOX, 4, 0.99)
    crop = found.crop(0)
    assert not crop[:, :20].any() and crop[:, 25:].all()


def test_bits_beyond_the_width_are_zero():
    shapes, saliency, labels = random_maps(np.random.default_rng(0), 1, 1)
    found = box_masks(np.array([(1, 1, 12, 5)], F), labels, shapes, saliency, LETTERBOX, 4, 0.0)
    assert found.packed[0].shape == (4, 2)
    assert (found.packed[0] == [255, 0b111]).all()


def test_the_saliency_of_the_own_class_is_used():
    saliency = np.stack([np.full((16, 16), -20, F), np.full((16, 16), 20, F)])
    boxes = np.array([(1, 1, 9, 9), (1, 1, 9, 9)], F)
    found = box_masks(boxes, np.array([0, 1]), np.full((2, 7, 7), 20, F), saliency, LETTERBOX, 4, 0.5)
    assert not found.crop(0).any() and found.crop(1).all()


def test_pixels_belong_to_a_box_by_their_centres():
    boxes = np.array([(0.5, 1.5, 2.5, 3.5), (0.51, 0, 2.51, 1), (-9, -9, 99, 99)], F)
    assert pixel_rects(boxes, FRAME_HW).tolist() == [[0, 1, 2, 3], [1, 0, 3, 1], [0, 0, 53, 37]]


def test_a_circle_in_the_shape_is_a_circle_in_the_frame():
    """Against geometry, not against code: a disc of 32 cells is a disc of 200 pixels up to two pixels of its edge."""
    frame_hw = (240, 320)
    letterbox = Letterbox.fit(frame_hw, (512, 512))
    middle = (np.arange(32) + 0.5) / 32 - 0.5
    shape = (40 * (0.4 - np.hypot(middle[:, None], middle[None]))).astype(F)[None]
    box = np.array([(50, 20, 250, 220)], F)
    found = box_masks(box, np.zeros(1, int), shape, np.full((1, 128, 128), 20, F), letterbox, 4, 0.5)
    y, x = np.mgrid[:240, :320] + 0.5
    radius = np.hypot(x - 150, y - 120)
    assert found.canvas(0)[radius < 78].all() and not found.canvas(0)[radius > 82].any()

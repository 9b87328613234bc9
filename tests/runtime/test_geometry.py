# SPDX-License-Identifier: Apache-2.0
"""The letterbox keeps the aspect ratio, is centred, fits, and can be undone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask_runtime.geometry import Letterbox, clip_boxes

sides = st.integers(1, 5000)
inputs = st.integers(1, 40).map(lambda n: 32 * n)


@given(sides, sides, inputs, inputs)
def test_the_frame_fits_and_touches_two_edges(height, width, input_h, input_w):
    box = Letterbox.fit((height, width), (input_h, input_w))
    (h, w), (left, top) = box.resized_hw, box.offset_xy
    assert 1 <= h <= input_h and 1 <= w <= input_w
    assert h == input_h or w == input_w
    assert 0 <= left and left + w <= input_w and 0 <= top and top + h <= input_h
    assert abs(left - (input_w - w - left)) <= 1 and abs(top - (input_h - h - top)) <= 1


@given(sides, sides, inputs, inputs)
def test_the_aspect_ratio_is_kept_up_to_whole_pixels(height, width, input_h, input_w):
    box = Letterbox.fit((height, width), (input_h, input_w))
    scale = min(input_h / height, input_w / width)
    assert abs(box.resized_hw[0] - height * scale) <= 0.5 or box.resized_hw[0] == 1
    assert abs(box.resized_hw[1] - width * scale) <= 0.5 or box.resized_hw[1] == 1


@given(sides, sides, inputs, inputs, st.integers(0, 99))
def test_to_frame_undoes_to_input(height, width, input_h, input_w, seed):
    box = Letterbox.fit((height, width), (input_h, input_w))
    points = np.random.default_rng(seed).uniform(-0.2, 1.2, (5, 2)) * (width, height)
    # float32 points of the input: an ulp there, up to 1.2 * 1280, is 1.2e-4 pixels, and more in a larger frame.
    tolerance = 2e-4 / min(box.scale_xy) + 1e-3
    np.testing.assert_allclose(box.to_frame(box.to_input(points)), points, atol=tolerance)


def test_by_hand():
    """1080p into 512 x 512: 512 x 288, so 112 rows of padding above and below, 3.75 source pixels an input pixel."""
    box = Letterbox.fit((1080, 1920), (512, 512))
    assert (box.resized_hw, box.offset_xy) == ((288, 512), (0, 112))
    assert box.to_input(np.array([[0, 0], [1920, 1080]])).tolist() == [[0, 112], [512, 400]]
    found = box.boxes_to_frame(np.array([[0, 112, 512, 400], [256, 256, 260, 264]]))
    assert found.tolist() == [[0, 0, 1920, 1080], [960, 540, 975, 570]]


def test_no_boxes_stay_no_boxes():
    assert Letterbox.fit((10, 20), (32, 32)).boxes_to_frame(np.zeros((0, 4))).shape == (0, 4)


def test_a_frame_without_pixels_is_a_broken_promise():
    with pytest.raises(AssertionError):
        Letterbox.fit((0, 20), (32, 32))


def test_boxes_are_cut_at_the_edges():
    found = clip_boxes(np.array([[-3, 4, 30, 99], [40, 5, 50, 6]], np.float32), (10, 20))
    assert found.tolist() == [[0, 4, 20, 10], [20, 5, 20, 6]] and found.dtype == np.float32

# SPDX-License-Identifier: Apache-2.0
"""The letterboxed frame against bilinear sampling at half-pixel centres in float64."""

from __future__ import annotations

import numpy as np
import pytest

from centermask_runtime.geometry import PAD_VALUE, Letterbox
from centermask_runtime.reference.preprocess import letterbox


def slow_letterbox(frame, box):
    """float64 [input_h, input_w, 3]: a loop over the pixels of the input."""
    result = np.full((*box.input_hw, 3), float(PAD_VALUE))
    (height, width), (left, top) = box.frame_hw, box.offset_xy
    scale_x, scale_y = box.scale_xy
    for i in range(box.resized_hw[0]):
        for j in range(box.resized_hw[1]):
            y = min(max((i + 0.5) / scale_y - 0.5, 0), height - 1)
            x = min(max((j + 0.5) / scale_x - 0.5, 0), width - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            upper = frame[y0, x0] * (1 - (x - x0)) + frame[y0, x1] * (x - x0)
            lower = frame[y1, x0] * (1 - (x - x0)) + frame[y1, x1] * (x - x0)
            result[top + i, left + j] = upper * (1 - (y - y0)) + lower * (y - y0)
    return result


@pytest.mark.parametrize(
    ("frame_hw", "input_hw"),
    [
        ((48, 64), (64, 64)),
        ((90, 50), (64, 96)),
        ((64, 96), (64, 96)),
        ((7, 200), (64, 64)),
        ((1, 1), (32, 32)),
        ((31, 17), (32, 64)),
    ],
)
def test_the_frame_is_sampled_at_half_pixel_centres(frame_hw, input_hw):
    """Within one grey level: OpenCV interpolates 8-bit images with weights of 11 bits and rounds the result."""
    frame = np.random.default_rng(0).integers(0, 256, (*frame_hw, 3), dtype=np.uint8)
    box = Letterbox.fit(frame_hw, input_hw)
    found = letterbox(frame, box)
    assert found.shape == (*input_hw, 3) and found.dtype == np.uint8
    assert np.abs(found - slow_letterbox(frame, box)).max() <= 1


def test_a_frame_of_the_input_size_is_unchanged():
    frame = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    np.testing.assert_array_equal(letterbox(frame, Letterbox.fit((64, 96), (64, 96))), frame)


def test_a_used_buffer_gives_the_same_as_a_new_one():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (30, 80, 3), dtype=np.uint8)
    box = Letterbox.fit((30, 80), (64, 64))
    buffer = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert letterbox(frame, box, out=buffer) is buffer
    np.testing.assert_array_equal(buffer, letterbox(frame, box))


def test_a_view_of_a_larger_frame_works():
    frame = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    view = frame[10:50:2, 90:20:-1]
    box = Letterbox.fit(view.shape[:2], (32, 64))
    np.testing.assert_array_equal(letterbox(view, box), letterbox(view.copy(), box))


def test_any_memory_layout_of_a_frame_is_fitted_alike():
    frame = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    box = Letterbox.fit((50, 70), (64, 64))
    expected = letterbox(frame, box)
    read_only = frame.copy()
    read_only.flags.writeable = False
    turned = np.ascontiguousarray(frame[::-1, :, ::-1])[::-1, :, ::-1]
    for same in (read_only, turned, np.asfortranarray(frame), np.repeat(frame, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(letterbox(same, box), expected)

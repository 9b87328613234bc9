# SPDX-License-Identifier: Apache-2.0
"""Maps to the canvas: exact where they can be exact, and equal to inference where they should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask.data.augment.affine import letterbox_affine, show_mask, warp_image
from centermask_runtime.geometry import PAD_VALUE, Letterbox
from centermask_runtime.reference import preprocess

sizes = st.tuples(st.integers(8, 400), st.integers(8, 400))
seeds = st.integers(0, 2**32 - 1)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def affine_of(linear: list[list[float]], frame_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> np.ndarray:
    """The map with a given 2 x 2 part that brings the middle of the frame to the middle of the canvas."""
    matrix = np.array(linear, np.float64)
    return np.column_stack([matrix, np.array(canvas_hw[::-1]) / 2 - matrix @ (np.array(frame_hw[::-1]) / 2)])


@pytest.mark.parametrize(
    ("linear", "truth"),
    [
        ([[1, 0], [0, 1]], lambda image: image),
        ([[-1, 0], [0, 1]], lambda image: np.flip(image, 1)),
        ([[1, 0], [0, -1]], lambda image: np.flip(image, 0)),
        ([[-1, 0], [0, -1]], lambda image: np.rot90(image, 2)),
        ([[0, 1], [-1, 0]], lambda image: np.rot90(image)),
        ([[0, -1], [1, 0]], lambda image: np.rot90(image, 3)),
        ([[2, 0], [0, -2]], None),
    ],
)
def test_whole_pixel_maps_move_pixels_and_change_none(linear, truth):
    image = noise(20, 31)
    if truth is None:  # twofold: no source pixel centre is hit, the mean of the middle is
        doubled = warp_image(image, affine_of(linear, (20, 31), (40, 62)), (40, 62))
        assert doubled[1:-1:2, 1:-1:2].mean() == pytest.approx(image.mean(), abs=1.5)
        return
    expected = truth(image)
    canvas_hw = expected.shape[:2]
    np.testing.assert_array_equal(warp_image(image, affine_of(linear, (20, 31), canvas_hw), canvas_hw), expected)


def test_a_shift_by_whole_pixels_pads_with_the_letterbox_grey():
    image = noise(10, 12)
    shown = warp_image(image, np.array([[1.0, 0, 3], [0, 1, -2]]), (10, 16))
    np.testing.assert_array_equal(shown[:8, 3:15], image[2:])
    assert (shown[8:] == PAD_VALUE).all() and (shown[:, :3] == PAD_VALUE).all() and (shown[:, 15:] == PAD_VALUE).all()


@given(frame_hw=sizes, input_hw=sizes)
def test_the_letterbox_map_is_the_letterbox(frame_hw, input_hw):
    letterbox = Letterbox.fit(frame_hw, input_hw)
    points = np.array([[0, 0], [frame_hw[1], frame_hw[0]], [1.5, 2.25]])
    affine = letterbox_affine(frame_hw, input_hw)
    mapped = points @ affine[:, :2].T + affine[:, 2]
    np.testing.assert_allclose(mapped, letterbox.to_input(points), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("frame_hw", [(40, 64), (200, 90), (96, 96), (33, 47)])
def test_a_letterboxed_training_image_is_what_inference_sees(frame_hw):
    """Up to 2 grey levels: cv2.warpAffine has 5 bits for a fraction of a pixel."""
    y, x = np.mgrid[: frame_hw[0], : frame_hw[1]] / 9.0
    image = np.stack([127 + 60 * np.sin(x), 127 + 60 * np.cos(y), 127 + 60 * np.sin(x + y)], 2).astype(np.uint8)
    shown = warp_image(image, letterbox_affine(frame_hw, (96, 128)), (96, 128))
    truth = preprocess.letterbox(image, Letterbox.fit(frame_hw, (96, 128)))
    assert np.abs(shown.astype(int) - truth).max() <= 2


MASK = np.array([[1, 0, 0], [1, 1, 0]], np.bool_)  # an L, 3 wide and 2 high


@pytest.mark.parametrize(
    ("linear", "truth"),
    [
        ([[1, 0], [0, 1]], MASK),
        ([[-1, 0], [0, 1]], np.flip(MASK, 1)),
        ([[1, 0], [0, -1]], np.flip(MASK, 0)),
        ([[0, 1], [-1, 0]], np.rot90(MASK)),
        ([[0, -1], [1, 0]], np.rot90(MASK, 3)),
        ([[2, 0], [0, 2]], np.repeat(np.repeat(MASK, 2, 0), 2, 1)),
        ([[0, -2], [2, 0]], np.repeat(np.repeat(np.rot90(MASK, 3), 2, 0), 2, 1)),
    ],
)
def test_a_mask_shows_at_the_source_pixel_under_each_canvas_pixels_centre(linear, truth):
    canvas_hw = truth.shape
    affine = affine_of(linear, MASK.shape, canvas_hw)
    shown = show_mask(MASK, (0, 0), affine, (0, 0, canvas_hw[1], canvas_hw[0]))
    np.testing.assert_array_equal(shown, truth)
    np.testing.assert_array_equal(show_mask(MASK, (0, 0), affine, (1, 0, canvas_hw[1], 2)), truth[:2, 1:])


def test_a_mask_lies_where_its_corner_is_and_its_edge_goes_on_beyond():
    shown = show_mask(MASK, (2, 1), np.array([[1.0, 0, 0], [0, 1, 0]]), (0, 0, 7, 4))
    np.testing.assert_array_equal(shown[1:3, 2:5], MASK)
    assert shown[0].tolist() == [True, True, True, False, False, False, False] and shown[3, :4].all()

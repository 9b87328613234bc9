# SPDX-License-Identifier: Apache-2.0
"""Augmentation: exact where it can be exact, within its limits otherwise, equal to inference where it should be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask.config import AugmentConfig
from centermask.data.augment.affine import CROP_MARGIN, jitter_colour, letterbox_affine, sample_affine, warp_image
from centermask_runtime.geometry import PAD_VALUE, Letterbox
from centermask_runtime.reference import preprocess

STILL = AugmentConfig(scale=(1, 1), shift=0, flip=0, colour=0)
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


def test_flips_and_turns_of_a_square_are_the_eight_of_numpy():
    image = noise(32, 32)
    config = AugmentConfig(scale=(1, 1), shift=0, flip=0.5, flip_vertical=0.5, rotate_90=True)
    poses = [np.rot90(flipped, k) for flipped in (image, image[:, ::-1]) for k in range(4)]
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(100):
        shown = warp_image(image, sample_affine(rng, (32, 32), (32, 32), (32, 32), config), (32, 32))
        matches = [n for n, pose in enumerate(poses) if np.array_equal(shown, pose)]
        assert len(matches) == 1
        seen.update(matches)
    assert seen == set(range(8))


@given(frame_hw=sizes, input_hw=sizes, canvas_hw=sizes, seed=seeds)
def test_a_random_map_scales_within_limits_and_shows_the_image(frame_hw, input_hw, canvas_hw, seed):
    config = AugmentConfig(scale=(0.6, 1.4), shift=0.1, flip_vertical=0.5, rotate_90=True)
    affine = sample_affine(np.random.default_rng(seed), frame_hw, input_hw, canvas_hw, config)
    linear = affine[:, :2]
    scales = np.abs(linear[linear != 0])
    base = min(input_hw[0] / frame_hw[0], input_hw[1] / frame_hw[1])
    assert len(scales) == 2 and scales[0] == scales[1]
    assert 0.6 * base - 1e-9 <= scales[0] <= 1.4 * base + 1e-9
    height, width = frame_hw
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ linear.T + affine[:, 2]
    for low, high, canvas in zip(corners.min(0), corners.max(0), canvas_hw[::-1], strict=True):
        if high - low > canvas:  # a crop: hardly any padding
            assert low <= CROP_MARGIN * canvas + 1e-6 and high >= canvas - CROP_MARGIN * canvas - 1e-6
        else:
            assert abs((low + high) / 2 - canvas / 2) <= 0.1 * canvas + 1e-6


def test_every_part_of_a_large_image_can_be_cropped():
    rng = np.random.default_rng(0)
    lefts = [-sample_affine(rng, (512, 512), (512, 512), (128, 128), STILL)[0, 2] for _ in range(300)]
    assert min(lefts) < 10 and max(lefts) > 374 and 150 < np.median(lefts) < 234


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


def test_no_colour_strength_leaves_the_image_alone():
    image = noise(16, 16)
    np.testing.assert_array_equal(jitter_colour(np.random.default_rng(3), image, STILL), image)


def test_the_negative_is_255_minus_the_image():
    image = noise(16, 16)
    config = AugmentConfig(colour=0, invert=1.0)
    np.testing.assert_array_equal(jitter_colour(np.random.default_rng(3), image, config), 255 - image)


@given(seed=seeds)
def test_colour_is_brightness_contrast_and_saturation_one_after_another(seed):
    image = noise(12, 17, seed)
    slow = image.astype(np.float64)
    rng = np.random.default_rng(seed)
    weights = np.array([0.114, 0.587, 0.299])
    for step in rng.permutation(3):
        strength = 1 + rng.uniform(-0.4, 0.4)
        if step == 0:
            slow = slow * strength
        elif step == 1:
            slow = slow * strength + (1 - strength) * (slow @ weights).mean()
        else:
            slow = slow * strength + (1 - strength) * (slow @ weights)[..., None]
    fast = jitter_colour(np.random.default_rng(seed), image, AugmentConfig(colour=0.4, invert=0))
    assert np.abs(fast - slow.clip(0, 255)).max() <= 1  # rounding, and cv2.transform's fixed-point coefficients

# SPDX-License-Identifier: Apache-2.0
"""What chance decides: maps within their limits, each part of an image and each pose; colours as they are defined."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from centermask.config import AugmentConfig
from centermask.data.augment.affine import warp_image
from centermask.data.augment.draw import CROP_MARGIN, jitter_colour, sample_affine

STILL = AugmentConfig(scale=(1, 1), shift=0, flip=0, colour=0)
sizes = st.tuples(st.integers(8, 400), st.integers(8, 400))
seeds = st.integers(0, 2**32 - 1)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


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

# SPDX-License-Identifier: Apache-2.0
"""What differs between laboratories: off by default, exact at known values, and never a change of geometry."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask.config import AugmentConfig
from centermask.data.augment.appearance import DENSITY, STAINS, change_appearance

seeds = st.integers(0, 2**32 - 1)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (24, 36, 3), np.uint8)


def changed(image: np.ndarray, seed: int = 0, **settings: float) -> np.ndarray:
    return change_appearance(np.random.default_rng(seed), image, AugmentConfig(**settings))


def test_nothing_is_drawn_or_changed_by_default():
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(change_appearance(rng, noise(), AugmentConfig()), noise())
    assert rng.random() == np.random.default_rng(1).random()


def test_more_haematoxylin_darkens_a_pixel_of_pure_haematoxylin_along_its_own_colour():
    pure = np.rint(256 * np.exp(-0.8 * STAINS[0]) - 1).astype(np.uint8)
    image = np.broadcast_to(pure, (8, 8, 3)).copy()
    densities = []
    for seed in range(20):
        pixel = changed(image, seed, stain=0.5)[0, 0]
        densities.append(DENSITY[pixel] @ STAINS[0])
        np.testing.assert_allclose(DENSITY[pixel], densities[-1] * STAINS[0], atol=0.02)  # no other stain appears
    assert 0.39 < min(densities) < 0.5 and 1.1 < max(densities) < 1.21  # 0.8 * (1 +- 0.5)


@given(seed=seeds)
def test_white_stays_white_whatever_the_stain(seed):
    white = np.full((4, 4, 3), 255, np.uint8)
    np.testing.assert_array_equal(changed(white, seed, stain=0.9), white)


@given(seed=seeds)
def test_gamma_keeps_the_order_of_values_and_both_ends(seed):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, 2)
    values = changed(ramp, seed, gamma=0.7)[:, 0, 0].astype(int)
    assert values[0] == 0 and values[255] == 255 and (np.diff(values) >= 0).all()
    middle = 255 * (128 / 255) ** np.exp([0.7, -0.7])
    assert middle[0] - 1 <= values[128] <= middle[1] + 1


@given(seed=seeds)
def test_uneven_light_is_a_ramp_within_its_strength(seed):
    flat = np.full((31, 41, 3), 100, np.uint8)
    lit = changed(flat, seed, shading=0.4).astype(float)
    assert abs(lit[15, 20, 0] - 100) <= 1  # the middle
    assert lit.min() >= 60 - 1 and lit.max() <= 140 + 1
    np.testing.assert_allclose(lit[0, 0] + lit[-1, -1], 200, atol=1.01)  # as much darker here as lighter there


def test_grey_is_opencvs_grey_and_blur_keeps_the_mean():
    grey = changed(noise(), grey=1.0)
    np.testing.assert_array_equal(grey[..., 1], cv2.cvtColor(noise(), cv2.COLOR_BGR2GRAY))
    assert (grey == grey[..., :1]).all()
    blurred = changed(noise(), blur=1.0)
    assert blurred.std() < noise().std() and abs(blurred.mean() - noise().mean()) < 2


@pytest.mark.parametrize("field", ["stain", "gamma", "shading", "blur", "grey"])
def test_each_setting_alone_changes_pictures_and_keeps_their_form(field):
    result = change_appearance(np.random.default_rng(0), noise(), dataclasses.replace(AugmentConfig(), **{field: 0.9}))
    assert result.dtype == np.uint8 and result.shape == noise().shape and (result != noise()).any()

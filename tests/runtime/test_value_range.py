# SPDX-License-Identifier: Apache-2.0
"""Deep values become 8 bits by a range: worked out by hand, and by numpy's percentiles."""

from __future__ import annotations

import numpy as np
import pytest

from centermask_runtime.value_range import ValueRange


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_the_ends_become_0_and_255_and_the_middle_is_rounded(kind):
    found = ValueRange(100, 355).to_8_bits(np.array([0, 100, 101, 228, 354, 355, 999], kind))
    assert found.tolist() == [0, 0, 1, 128, 254, 255, 255] and found.dtype == np.uint8


def test_eight_bits_are_left_alone():
    image = np.arange(256, dtype=np.uint8)
    assert ValueRange(0, 10).to_8_bits(image) is image


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_percentiles_are_those_of_the_image(kind):
    image = np.random.default_rng(0).normal(2000, 300, (80, 90)).clip(0, 60000).astype(kind)
    found = ValueRange(1, 99, percentiles=True).to_8_bits(image)
    low, high = np.percentile(image, (1, 99))
    expected = np.clip((image - low) * 255 / (high - low), 0, 255)
    assert np.abs(found - expected).max() <= 1, "rounding, and counts instead of interpolation"


def test_what_is_not_a_number_is_black_and_a_flat_image_too():
    found = ValueRange(0, 1).to_8_bits(np.array([np.nan, 1, np.inf, -np.inf], np.float32))
    assert found.tolist() == [0, 255, 255, 0]
    for kind in (np.uint16, np.float32):
        assert not ValueRange(0, 100, percentiles=True).to_8_bits(np.full((4, 4), 7, kind)).any()
    assert not ValueRange(0, 100, percentiles=True).to_8_bits(np.full((4, 4), np.nan, np.float32)).any()

# SPDX-License-Identifier: Apache-2.0
"""What a region of the canvas shows of objects: where a slow loop finds them, and none of which nothing shows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from centermask.config import AugmentConfig
from centermask.data.augment.draw import sample_affine
from centermask.data.augment.scene import IDENTITY, show_objects
from centermask.data.targets import MIN_VISIBLE
from tests.support.object_masks import canvas_of, tight

FREE = AugmentConfig(scale=(0.7, 2.3), shift=0.2, flip=0.5, flip_vertical=0.5, rotate_90=True)


def slow_mask(mask: np.ndarray, affine: np.ndarray, canvas_hw: tuple[int, int], region) -> np.ndarray:
    """Pixel by pixel: the source pixel that contains the centre of the canvas pixel."""
    shown = np.zeros(canvas_hw, np.bool_)
    inverse = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))
    x0, y0, x1, y1 = region
    for y in range(y0, y1):
        for x in range(x0, x1):
            column, row = np.floor((inverse @ (x + 0.5, y + 0.5, 1))[:2] + 1e-9).astype(int)
            if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]:
                shown[y, x] = mask[row, column]
    return shown


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_an_object_shows_where_a_slow_loop_finds_it(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((14, 17)) < 0.5
    mask[3, 5] = True
    affine = sample_affine(rng, (14, 17), (24, 32), (24, 32), FREE)
    region = 5, 3, 27, 22
    expected = slow_mask(mask, affine, (24, 32), region)
    found = show_objects([tight(mask)], affine, region)
    if not expected.any():
        assert not found
        return
    (one,) = found
    # a centre exactly on the border of two pixels may fall either way
    assert np.count_nonzero(canvas_of(one, (24, 32)) != expected) <= 2
    assert one.crop[0].any() and one.crop[-1].any() and one.crop[:, 0].any() and one.crop[:, -1].any()


def test_a_rest_of_an_object_counts_for_the_saliency_alone():
    mask = np.ones((10, 100), np.bool_)
    (much,) = show_objects([tight(mask)], IDENTITY, (80, 0, 120, 20))
    (little,) = show_objects([tight(mask)], IDENTITY, (90, 0, 120, 20))
    assert not much.crowd and little.crowd and little.rect == (90, 0, 100, 10)
    assert 10 / 100 < MIN_VISIBLE < 20 / 100
    assert show_objects([tight(mask)], IDENTITY, (101, 0, 120, 20)) == []

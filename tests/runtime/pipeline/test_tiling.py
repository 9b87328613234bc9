# SPDX-License-Identifier: Apache-2.0
"""Tiles: what they see covers the frame, what they decide divides it, and which words for them are refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from centermask_runtime.errors import UsageError
from centermask_runtime.pipeline.tiling import Tile, Tiling

SIDES = st.integers(1, 400)


@st.composite
def tilings(draw) -> Tiling:
    tile = draw(st.integers(32, 128))
    return Tiling(tile, draw(st.integers(1, tile // 2)))


def tiles_of(tiling: Tiling, frame_hw: tuple[int, int]) -> list[Tile]:
    return [tile for row in tiling.rows(frame_hw) for tile in row]


@given(tilings(), SIDES, SIDES)
@example(Tiling(32, 16), 33, 400)
def test_each_pixel_is_in_one_core(tiling, height, width):
    decided = np.zeros((height, width), int)
    for tile in tiles_of(tiling, (height, width)):
        x0, y0, x1, y1 = tile.core
        decided[y0:y1, x0:x1] += 1
    assert (decided == 1).all()


@given(tilings(), SIDES, SIDES)
def test_a_tile_lies_in_the_frame_is_as_large_as_all_others_and_holds_its_core(tiling, height, width):
    tiles = tiles_of(tiling, (height, width))
    assert len(tiles) == tiling.count((height, width))
    for tile in tiles:
        (x0, y0, x1, y1), (left, top, right, bottom) = tile.rect, tile.core
        assert 0 <= x0 <= left < right <= x1 <= width and 0 <= y0 <= top < bottom <= y1 <= height
        assert tile.hw == (min(tiling.tile, height), min(tiling.tile, width))


@given(tilings(), SIDES, SIDES)
def test_neighbours_share_the_overlap_and_half_of_it_lies_on_each_side_of_the_seam(tiling, height, width):
    for row in tiling.rows((height, width)):
        for left, right in itertools.pairwise(row):
            assert left.rect[2] - right.rect[0] >= tiling.overlap
            assert left.core[2] == right.core[0]
            assert min(left.rect[2] - left.core[2], right.core[0] - right.rect[0]) >= tiling.overlap // 2


@given(tilings(), SIDES, SIDES)
def test_one_tile_fewer_would_not_do(tiling, height, width):
    across = len(next(iter(tiling.rows((height, width)))))
    assert across == 1 or (across - 1) * (tiling.tile - tiling.overlap) + tiling.overlap < width


def test_a_frame_that_fits_is_one_tile():
    assert tiles_of(Tiling(512, 64), (300, 512)) == [Tile(0, 0, (0, 0, 512, 300), (0, 0, 512, 300))]
    assert [tile.rect for tile in tiles_of(Tiling(512, 64), (300, 513))] == [(0, 0, 512, 300), (1, 0, 513, 300)]


def test_words_become_a_tiling():
    assert Tiling.of(None) is None
    assert Tiling.of(640) == Tiling(640, 80)
    assert Tiling.of(np.int64(500), 1) == Tiling(500, 1)  # any side: tiles are scaled to the network's input


@pytest.mark.parametrize(
    ("tile", "overlap", "sentence"),
    [
        (512, 512, "overlap must be at most half the tile, 256 of 512 pixels, not 512"),
        (512, 257, "overlap must be at most half the tile"),
        (512, 0, "overlap must be a whole number from 1 to"),
        (512, -3, "overlap must be a whole number"),
        (512, 6.5, "overlap must be a whole number .* not 6.5"),
        (31, None, "tile must be a whole number from 32 to"),
        (0, None, "tile must be a whole number"),
        ("512", None, "tile must be a whole number .* not '512'"),
        (True, None, "tile must be a whole number"),
        (None, 64, "An overlap of 64 was given, but no tile"),
    ],
)
def test_what_makes_no_tiles_is_refused_in_one_sentence(tile, overlap, sentence):
    with pytest.raises(UsageError, match=sentence):
        Tiling.of(tile, overlap)

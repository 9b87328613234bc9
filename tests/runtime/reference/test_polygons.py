# SPDX-License-Identifier: Apache-2.0
"""Polygons filled again by a rule of their own are the mask bit for bit, and their rings are as the definition says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from centermask_runtime.reference.polygons import polygons_of


def filled(polygons, shape):
    """Even-odd: a pixel is inside when an odd number of vertical edges lies left of its centre."""
    result = np.zeros(shape, bool)
    for polygon in polygons:
        piece = np.zeros(shape, bool)
        for ring in (polygon.outer, *polygon.holes):
            for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
                if x0 == x1:
                    piece[min(y0, y1) : max(y0, y1), x0:] ^= True
        assert not (piece & result).any(), "two polygons have a pixel in common"
        result |= piece
    return result


def area_of(ring):
    x, y = ring.astype(float).T
    return float(x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2


def check(mask):
    polygons = polygons_of(mask)
    np.testing.assert_array_equal(filled(polygons, mask.shape), mask)
    assert len(polygons) == cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] - 1
    for polygon in polygons:
        assert area_of(polygon.outer) > 0 and all(area_of(hole) < 0 for hole in polygon.holes)
        assert area_of(polygon.outer) > -sum(area_of(hole) for hole in polygon.holes)
        for ring in (polygon.outer, *polygon.holes):
            assert ring.dtype == np.int32 and len({tuple(vertex) for vertex in ring.tolist()}) == len(ring) >= 4
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all(), "each edge is horizontal or vertical"
            assert ((steps[:, 0] == 0) != (np.roll(steps, -1, axis=0)[:, 0] == 0)).all(), "and they take turns"
    return polygons


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_any_mask_comes_back(mask):
    check(mask)


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.5, 0.9, 0.99]))
def test_masks_with_many_pieces_and_holes_come_back(seed, density):
    check(np.random.default_rng(seed).random((40, 50)) < density)


@given(st.integers(0, 10_000))
def test_smooth_masks_come_back(seed):
    noise = np.random.default_rng(seed).random((60, 70)).astype(np.float32)
    check(cv2.GaussianBlur(noise, (0, 0), 3) > 0.5)


def parse(text):
    return np.array([[sign == "X" for sign in row] for row in text.split()])


def test_one_pixel_is_a_square():
    (polygon,) = polygons_of(np.ones((1, 1), bool), (7, 5))
    assert {tuple(vertex) for vertex in polygon.outer.tolist()} == {(7, 5), (8, 5), (8, 6), (7, 6)}
    assert polygon.holes == ()


def test_a_full_mask_is_its_rectangle():
    (polygon,) = check(np.ones((4, 9), bool))
    assert len(polygon.outer) == 4 and area_of(polygon.outer) == 36


def test_an_island_in_a_hole_is_a_polygon_of_its_own():
    outside, island = check(parse("XXXXX X...X X.X.X X...X XXXXX"))
    assert [area_of(hole) for hole in outside.holes] == [-9] and area_of(outside.outer) == 25
    assert area_of(island.outer) == 1 and island.holes == ()


def test_pixels_that_touch_at_a_corner_are_two_polygons():
    assert len(check(parse("X. .X"))) == 2


def test_holes_that_touch_at_a_corner_are_two_rings():
    (polygon,) = check(parse("XXXX X.XX XX.X XXXX"))
    assert sorted(area_of(hole) for hole in polygon.holes) == [-1, -1]


def test_a_piece_that_meets_itself_at_a_corner_has_a_hole_there():
    """The way from the hole to the outside leads through one corner only, which no ring passes twice."""
    (polygon,) = check(parse(".XX X.X XXX"))
    assert area_of(polygon.outer) == 8 and [area_of(hole) for hole in polygon.holes] == [-1]


def test_rings_go_clockwise_and_holes_the_other_way():
    (polygon,) = polygons_of(parse("XXX X.X XXX"))
    outer = polygon.outer.tolist()
    start = outer.index([0, 0])
    assert outer[start:] + outer[:start] == [[0, 0], [3, 0], [3, 3], [0, 3]]
    hole = polygon.holes[0].tolist()
    start = hole.index([1, 1])
    assert hole[start:] + hole[:start] == [[1, 1], [1, 2], [2, 2], [2, 1]]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (3, 0), (2, 2)])
def test_nothing_has_no_polygons(shape):
    assert polygons_of(np.zeros(shape, bool)) == []

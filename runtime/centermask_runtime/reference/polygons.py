# SPDX-License-Identifier: Apache-2.0
"""A mask as polygons along the edges of its pixels: exact, so that filling them again gives the mask bit for bit.

Coordinates are those of geometry.py: pixel (j, i) covers [j, j+1) x [i, i+1), so a vertex is a corner of a pixel and a
whole number. A mask of one pixel is a square of side 1. One polygon is one piece of the mask: pixels that share a side.
Pieces that only touch at a corner are polygons of their own. Each has one outer ring, clockwise as seen on the screen,
and a ring around each of its holes, anticlockwise. A ring visits no vertex twice, its first vertex is not repeated at
its end, and edges are horizontal or vertical in turn. Rings may touch each other at a vertex, but never cross.

Filled by the even-odd rule, a point is inside a polygon when a ray from it meets the rings an odd number of times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class Polygon(NamedTuple):
    """One piece of a mask."""

    outer: NDArray[np.int32]  # [V, 2] x, y of corners
    holes: tuple[NDArray[np.int32], ...]  # each [V, 2]


def polygons_of(mask: NDArray[np.bool_], origin_xy: tuple[int, int] = (0, 0)) -> list[Polygon]:
    """The pieces of a mask bool [h, w], of which pixel (0, 0) lies at origin_xy of the frame."""
    if not mask.any():
        return []
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    found = []
    for piece in range(1, count):
        left, top, width, height = stats[piece, :4].tolist()
        alone = pieces[top : top + height, left : left + width] == piece
        origin = np.array(origin_xy, np.int32) + np.array((left, top), np.int32)
        outer: NDArray[np.int32] | None = None
        holes = []
        for ring in _rings(alone):
            placed = ring + origin
            if _doubled_area(ring) > 0:
                assert outer is None, "a piece has one outer ring"
                outer = placed
            else:
                holes.append(placed)
        assert outer is not None, "a piece has an outer ring"
        found.append(Polygon(outer, tuple(holes)))
    return found


def _rings(piece: NDArray[np.bool_]) -> Iterator[NDArray[np.int32]]:
    """The rings of one piece, int32 [V, 2] each, with the piece on their right hand.

    OpenCV follows the centres of the outermost pixels. Each pixel is made four first, so each of these centres lies
    next to one corner of a pixel, and its place, halved and rounded up, is that corner.
    """
    doubled = np.repeat(np.repeat(piece.view(np.uint8), 2, axis=0), 2, axis=1)
    contours, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        corners = (contour[::-1, 0, :].astype(np.int32) + 1) // 2  # OpenCV goes round the other way
        for ring in _simple(corners):
            yield _without_straight_corners(ring)


def _simple(corners: NDArray[np.int32]) -> Iterator[NDArray[np.int32]]:
    """A closed walk, cut where it comes back to a vertex, so that no ring visits one twice."""
    corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
    keys = corners[:, 0].astype(np.int64) << 32 | corners[:, 1]
    if len(np.unique(keys)) == len(keys):
        yield corners
        return
    walk: list[int] = []  # indices of corners since the beginning
    place: dict[int, int] = {}  # of a vertex in `walk`
    for index, key in enumerate(keys.tolist()):
        if key in place:
            start = place[key]
            yield corners[walk[start:]]
            for passed in walk[start + 1 :]:
                del place[int(keys[passed])]
            del walk[start + 1 :]
        else:
            place[key] = len(walk)
            walk.append(index)
    yield corners[walk]


def _without_straight_corners(ring: NDArray[np.int32]) -> NDArray[np.int32]:
    before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
    return np.ascontiguousarray(ring[((before != ring) & (ring != after)).sum(axis=1) == 0])


def _doubled_area(ring: NDArray[np.int32]) -> int:
    """Twice the area; positive where the ring is clockwise on the screen, where y goes down."""
    x, y = ring.astype(np.int64).T
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())

# SPDX-License-Identifier: Apache-2.0
"""Outlines that cross themselves: those of which two edges meet inside both, by exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from centermask.data.doctor.polygons import crosses_itself


def proper_crossing(points: list[tuple[int, int]]) -> bool:
    """The slow way, in exact arithmetic: solve for the meeting point of every pair of edges."""
    edges = [(a, b) for a, b in zip(points, points[1:] + points[:1], strict=True) if a != b]
    for i, ((ax, ay), (bx, by)) in enumerate(edges):
        for (cx, cy), (dx, dy) in edges[:i]:
            det = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx)
            if det:
                t = Fraction((cx - ax) * (dy - cy) - (cy - ay) * (dx - cx), det)
                u = Fraction((cx - ax) * (by - ay) - (cy - ay) * (bx - ax), det)
                if 0 < t < 1 and 0 < u < 1:
                    return True
    return False


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=9))
def test_crossing_edges_are_those_that_meet_inside_both(points):
    assert crosses_itself(np.array(points, float)) == proper_crossing(points)


def test_a_bridge_between_two_parts_is_no_crossing():
    bridged = np.array([[0, 0], [4, 0], [4, 4], [10, 4], [10, 8], [14, 8], [14, 4], [10, 4], [4, 4], [0, 4]], float)
    assert not crosses_itself(bridged)

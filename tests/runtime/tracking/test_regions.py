# SPDX-License-Identifier: Apache-2.0
"""Geometry of zones and lines against OpenCV, and by properties: no point in two neighbours, none lost between them."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.tracking.regions import (
    Region,
    anchors,
    border_distance,
    check_shape,
    contains,
    crossing,
    distance,
)

whole = st.integers(0, 20).map(float)
points = st.tuples(whole, whole)
SQUARE = ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (0.0, 10.0))


def is_simple(outline) -> bool:
    try:
        check_shape(Region("z", "zone", tuple(outline)))
    except UsageError:
        return False
    return True


def test_anchors_are_where_an_object_stands_and_its_centre():
    boxes = np.array([[10, 20, 30, 60]], np.float32)
    assert anchors(boxes, "bottom").tolist() == [[20, 60]] and anchors(boxes, "centre").tolist() == [[20, 40]]
    assert anchors(np.zeros((0, 4), np.float32), "bottom").shape == (0, 2)


@settings(max_examples=200)
@given(st.lists(points, min_size=3, max_size=7, unique=True), points)
def test_a_point_off_the_border_is_inside_where_opencv_says_so(outline, point):
    assume(is_simple(outline))
    truth = cv2.pointPolygonTest(np.array(outline, np.float32), point, False)
    assume(truth != 0)
    assert contains(outline, point) == contains(outline[::-1], point) == (truth > 0)


@given(points, points)
def test_each_point_is_in_exactly_one_of_the_parts_of_a_square(middle, point):
    """Four triangles around any inner point, which share edges and corners that points may lie on."""
    assume(0 < middle[0] < 20 and 0 < middle[1] < 20 and point[0] < 20 and point[1] < 20)
    corners = [(0.0, 0.0), (20.0, 0.0), (20.0, 20.0), (0.0, 20.0)]
    parts = [(a, b, middle) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    assert sum(contains(part, point) for part in parts) == 1


def test_a_zone_holds_its_left_and_upper_edges_and_not_the_others():
    held = [contains(SQUARE, point) for point in ((0, 5), (5, 0), (0, 0), (10, 5), (5, 10), (10, 10))]
    assert held == [True, True, True, False, False, False]


def test_who_goes_up_over_a_line_from_left_to_right_comes_in():
    a, b = (0.0, 10.0), (20.0, 10.0)
    assert crossing(a, b, (5, 15), (5, 5)) == 1 and crossing(a, b, (5, 5), (5, 15)) == -1
    assert crossing(b, a, (5, 15), (5, 5)) == -1
    assert crossing(a, b, (25, 15), (25, 5)) == 0, "past its end"
    assert crossing(a, b, (20, 15), (20, 5)) == 1, "its end belongs to it"
    assert crossing(a, b, (5, 15), (5, 12)) == crossing(a, b, (2, 10), (8, 10)) == 0


@settings(max_examples=200)
@given(points, points, st.lists(points, min_size=2, max_size=8))
def test_a_way_there_and_back_crosses_nothing_in_sum(a, b, way):
    assume(a != b)
    there = sum(crossing(a, b, before, now) for before, now in itertools.pairwise(way))
    back = sum(crossing(a, b, before, now) for before, now in itertools.pairwise(way[::-1]))
    assert there == -back


@given(points, points, points)
def test_a_stop_on_the_way_changes_nothing(before, now, through):
    """Two steps along one straight way count as the one step does, also with a stop on the line."""
    a, b = (0.0, 10.0), (20.0, 10.0)
    middle = (before[0] + now[0]) / 2, (before[1] + now[1]) / 2
    assert crossing(a, b, before, now) == crossing(a, b, before, middle) + crossing(a, b, middle, now)


@given(points, points, points)
def test_the_distance_is_that_of_the_nearest_of_many_points(a, b, point):
    assume(a != b)
    along = np.linspace(0, 1, 2001)[:, None]
    nearest = np.hypot(*((1 - along) * a + along * b - point).T).min()
    assert distance(a, b, point) == pytest.approx(nearest, abs=1e-2)


def test_the_border_of_a_zone_is_all_around_it():
    assert [border_distance(Region("z", "zone", SQUARE), p) for p in ((5, 5), (5, 9), (1, 5), (13, 14))] == [5, 1, 1, 5]


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        (((0, 0), (10, 10), (10, 0), (0, 10)), "crosses or touches itself between edges 1 and 3"),  # a bow tie
        (((0, 0), (10, 0), (10, 10), (5, 0), (0, 10)), "crosses or touches itself"),  # a corner on an edge
        (((0, 0), (10, 0), (5, 0)), "crosses or touches itself"),  # no area
        (((0, 0), (10, 0), (10, 10), (10, 2), (0, 10)), "crosses or touches itself"),  # there and back
        (((0, 0), (10, 0), (0, 0)), "at least 3 different points, not 2"),
    ],
)
def test_an_outline_that_does_not_go_around_something_once_is_refused(outline, reason):
    with pytest.raises(UsageError, match=reason):
        check_shape(Region("z", "zone", outline))


def test_a_region_outside_the_frame_and_a_class_that_is_not_there_are_refused():
    with pytest.raises(DataError, match=r"outside the frame of 9 x 20 pixels: \(10, 0\), \(10, 10\); move them"):
        Region("z", "zone", SQUARE).check_inside((20, 9))
    Region("z", "zone", SQUARE).check_inside((10, 10))
    with pytest.raises(DataError, match="counts the class 'cat', which the model has not; did you mean 'cats'"):
        Region("z", "zone", SQUARE, ("cat",)).labels(("cats", "dogs"))
    assert Region("z", "zone", SQUARE, ("dogs",)).labels(("cats", "dogs")) == {1}

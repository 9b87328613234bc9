# SPDX-License-Identifier: Apache-2.0
"""Counts against those that are known: from the ways of discs, from a slow polyline, and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.errors import DataError
from centermask_runtime.instances import Instances
from centermask_runtime.tracking.counting import Counting
from centermask_runtime.tracking.regions import Region
from centermask_runtime.tracking.regions_file import Regions
from tests.support.moving_discs import FRAME_HW, NAMES, moment

LINE = Region("gate", "line", ((100.0, 120.0), (200.0, 120.0)), anchor="centre")
ZONE = Region("yard", "zone", ((100.0, 60.0), (200.0, 60.0), (200.0, 180.0), (100.0, 180.0)), anchor="centre")


def objects(places, ids=None, labels=None, size=20, frame_hw=FRAME_HW):
    """Objects whose centres are at these places."""
    xy = np.array(places, np.float32).reshape(-1, 2)
    empty = BoxMasks.from_crops(frame_hw, np.zeros((len(xy), 4), np.int32), [np.zeros((0, 0), np.bool_)] * len(xy))
    return Instances(
        frame_hw,
        np.concatenate((xy - size / 2, xy + size / 2), 1),
        np.ones(len(xy), np.float32),
        np.zeros(len(xy), np.int32) if labels is None else np.array(labels, np.int32),
        empty,
        NAMES,
        (1, 2),
        None if ids is None else np.array(ids, np.int64),
    )


def counted(region, way, *, size=20, frames=None):
    """(in, out, inside, seen) after one object went a way; None where it is missing."""
    counting = Counting(Regions((region,)), NAMES)
    for index, place in enumerate(way):
        found = objects([] if place is None else [place], [] if place is None else [7], size=size)
        (counts,) = counting.add(moment(index), found)
    return counts.came_in.total(), counts.went_out.total(), counts.inside.total(), counts.seen.total()


below, above = (150, 150), (150, 90)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ([below, above], (1, 0)),
        ([above, below], (0, 1)),
        ([below, above, below, above], (2, 1)),
        ([below, None, None, None, above], (1, 0)),  # missing on its way
        ([below, (150, 119), (150, 121), (150, 119), (150, 121), above], (1, 0)),  # it trembles on the line
        ([below, (150, 119), (150, 121), below], (0, 0)),  # it turns back
        ([below, (150, 119)], (0, 0)),  # it is lost within the margin
        ([below, (150, 118)], (1, 0)),  # a tenth of 20 pixels beyond it
        ([below, (250, 150), (250, 90), above], (0, 0)),  # around its end
        ([below, above, (250, 90), (250, 150), below, above], (2, 0)),  # twice in one direction
        ([above], (0, 0)),
    ],
)
def test_a_crossing_counts_when_an_object_is_beyond_the_line_for_good(way, expected):
    assert counted(LINE, way)[:2] == expected


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ([(50, 100), (150, 100)], (1, 0, 1, 1)),
        ([(150, 100), (50, 100)], (0, 1, 0, 1)),  # first seen inside: it has not come in
        ([(50, 100), (101, 100), (99, 100), (101, 100)], (0, 0, 1, 1)),  # it trembles on the border
        ([(50, 100), (150, 100), (50, 100), (150, 100)], (2, 1, 1, 1)),  # one track
        ([(150, 100), None], (0, 0, 0, 1)),  # lost inside: it has not gone out
        ([(50, 100), (250, 100)], (0, 0, 0, 0)),  # seen on neither side of a step through it
    ],
)
def test_a_zone_has_objects_inside_and_tracks_that_come_and_go(way, expected):
    assert counted(ZONE, way) == expected


place = st.tuples(st.floats(40, 280), st.floats(40, 200))


@settings(max_examples=150)
@given(st.lists(place, min_size=2, max_size=12))
def test_without_a_margin_a_line_counts_as_often_as_the_way_meets_it(way):
    """The truth: where each step meets the level of the line, by its height, and whether that is between its ends."""
    line = Region("gate", "line", LINE.points, anchor="centre", margin=0)
    way = [tuple(np.float32(place).tolist()) for place in way]
    truth = [0, 0]
    for (x, y), (x2, y2) in itertools.pairwise(way):
        assume(y != 120 and y2 != 120)
        if (y > 120) != (y2 > 120):
            meets = x + (x2 - x) * (120 - y) / (y2 - y)
            assume(min(abs(meets - 100), abs(meets - 200)) > 1e-3)
            truth[y < 120] += 100 < meets < 200
    assert counted(line, way, size=0)[:2] == tuple(truth)


@given(amplitude=st.floats(20, 80), periods=st.integers(1, 6), step=st.integers(3, 9), gone=st.integers(0, 3))
def test_a_disc_that_swings_over_a_line_is_counted_as_often_as_it_swings(amplitude, periods, step, gone):
    """Twice per period, first up, whatever the margin, the frames' distance, and frames in which it is missing."""
    way = [
        (150, 120 + amplitude * math.cos(math.radians(degrees)))
        for degrees in range(0, 360 * periods + 1, step)
        if degrees % 360 != 90 + gone  # the frame in which it is on the line
    ]
    assert counted(LINE, way)[:2] == (periods, periods)


@given(st.permutations(range(6)), st.integers(2, 15))
def test_many_objects_in_any_order_are_counted_each_by_its_class(order, steps):
    """Six that go straight from one side to the other, at places that are told apart by their ids alone."""
    counting = Counting(Regions((LINE, ZONE)), NAMES)
    for index in range(steps + 1):
        height = [150 - 60 * index / steps if number % 2 else 90 + 60 * index / steps for number in order]
        places = [(105 + 18 * number, y) for number, y in zip(order, height, strict=True)]
        line, zone = counting.add(moment(index), objects(places, list(order), [number % 2 for number in order], 10))
    assert dict(line.went_out) == {0: 3} and dict(line.came_in) == {1: 3}
    assert zone.inside == zone.seen == {0: 3, 1: 3} and not zone.came_in


def test_objects_without_a_track_are_inside_and_cross_nothing():
    counting = Counting(Regions((LINE, ZONE)), NAMES)
    for index, place in enumerate((below, above)):
        line, zone = counting.add(moment(index), objects([place, place], [-1, -1]))
        assert zone.inside.total() == 2
    assert not line.came_in and not zone.seen
    assert counting.add(moment(2), objects([above]))[1].inside.total() == 1, "of a source without a tracker"


def test_only_the_classes_of_a_region_are_counted():
    coins = Region("gate", "line", LINE.points, ("coin",), "centre")
    counting = Counting(Regions((coins,)), NAMES)
    for index, place in enumerate((below, above)):
        (counts,) = counting.add(moment(index), objects([place, place], [1, 2], [0, 1]))
    assert dict(counts.came_in) == {1: 1} and counts.labels == [1]
    with pytest.raises(DataError, match="counts the class 'coins', which the model has not; did you mean 'coin'"):
        Counting(Regions((Region("gate", "line", LINE.points, ("coins",)),)), NAMES)


def test_regions_follow_the_size_of_the_frames_and_ways_begin_anew():
    counting = Counting(Regions((LINE,)), NAMES)
    counting.add(moment(0), objects([below], [1]))
    (counts,) = counting.add(moment(1), objects([(300, 180)], [2], frame_hw=(480, 640)))
    assert counts.region.points == ((200, 240), (400, 240)) and not counts.came_in
    (counts,) = counting.add(moment(2), objects([(300, 280)], [2], frame_hw=(480, 640)))
    assert counts.went_out.total() == 1


def test_a_region_outside_the_first_frame_is_refused():
    counting = Counting(Regions((LINE,)), NAMES)
    with pytest.raises(DataError, match="points outside the frame of 160 x 120 pixels"):
        counting.add(moment(0), objects([], [], frame_hw=(120, 160)))

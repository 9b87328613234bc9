# SPDX-License-Identifier: Apache-2.0
"""Who is who from frame to frame: constant ids for known discs, gaps, cuts and classes; masks stay with their ids."""

from __future__ import annotations

import dataclasses
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centermask_runtime.errors import UsageError
from centermask_runtime.sources.source import SourceInfo
from centermask_runtime.tracking.by_source import MOST_SOURCES, BySource
from centermask_runtime.tracking.tracker import UNTRACKED, Tracker
from tests.support.moving_discs import FPS, Disc, moment, seen

LEFT, RIGHT = Disc(60, 120, 20, 5, 20), Disc(240, 100, -15, 8, 28)


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def ids_at(tracker, discs, indices, fps=FPS, **places):
    """Ids of the discs in frames of these numbers, int64 [frames, discs]."""
    return np.array(
        [tracker.update(moment(i, i / fps), seen(discs, i / fps, **places)).ids.tolist() for i in indices], np.int64
    )


def discs_around(x):
    return st.tuples(
        st.floats(x - 15, x + 15), st.floats(60, 180), st.floats(-15, 15), st.floats(-60, 60), st.floats(12, 30)
    ).map(lambda values: Disc(*values))


@settings(max_examples=25)
@given(
    left=discs_around(75),
    right=discs_around(245),
    swaps=st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_two_discs_keep_their_ids_and_masks_whatever_the_order_in_which_they_are_found(left, right, swaps):
    tracker, discs = Tracker(), [left, right]
    owners = {}
    for index, swap in enumerate(swaps):
        order = discs[::-1] if swap else discs
        time_s = index / FPS
        given_ones = seen(order, time_s)
        found = tracker.update(moment(index, time_s), given_ones)
        np.testing.assert_array_equal(found.boxes, given_ones.boxes)
        np.testing.assert_array_equal(found.masks.canvases(), seen(order, time_s).masks.canvases())
        assert found.ids.dtype == np.int64
        if index == 0:
            assert found.ids.tolist() == [UNTRACKED, UNTRACKED]
            continue
        for disc, track in zip(order, found.ids.tolist(), strict=True):
            assert owners.setdefault(track, disc) is disc
        kept = found.select(found.ids == max(owners))
        np.testing.assert_array_equal(kept.masks.canvases(), seen([owners[max(owners)]], time_s).masks.canvases())
    assert sorted(owners) == [1, 2]


def test_an_object_that_is_missing_for_the_gap_keeps_its_id_and_one_that_is_missing_longer_gets_a_new_one():
    for missing, kept in ((25, True), (27, False)):
        tracker = Tracker(gap=1.0, fps=FPS)
        before = ids_at(tracker, [LEFT, RIGHT], range(20))[-1].tolist()
        for index in range(20, 20 + missing):
            assert tracker.update(moment(index, index / FPS), seen([], 0)).ids.shape == (0,)
        after = ids_at(tracker, [LEFT, RIGHT], range(20 + missing, 25 + missing))
        assert sorted(before) == [1, 2]
        assert after[-1].tolist() == (before if kept else [3, 4])


def test_one_disc_that_is_missing_does_not_lend_its_id_to_the_other():
    tracker = Tracker(gap=1.0, fps=FPS)
    both = ids_at(tracker, [LEFT, RIGHT], range(10))[-1]
    alone = ids_at(tracker, [RIGHT], range(10, 30))
    assert set(alone.ravel().tolist()) == {int(both[1])}
    assert ids_at(tracker, [LEFT, RIGHT], range(30, 33)).tolist() == [both.tolist()] * 3


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_frames_that_are_left_out_change_nothing(stride):
    ids = ids_at(Tracker(fps=FPS / stride), [LEFT, RIGHT], range(0, 60, stride))
    assert len(np.unique(ids[1:], axis=0)) == 1 and UNTRACKED not in ids[1:]


def test_frames_without_times_follow_each_other_by_the_given_rate():
    tracker = Tracker(gap=1.0, fps=4)
    for index in range(4):
        ids = tracker.update(moment(index), seen([LEFT], index / FPS)).ids.tolist()
    for index in range(4, 8):  # a second
        tracker.update(moment(index), seen([], 0))
    assert tracker.update(moment(8), seen([LEFT], 8 / FPS)).ids.tolist() == ids == [1]


def test_frames_with_one_time_are_taken_in_their_order():
    tracker = Tracker(fps=FPS)
    times = [0, 0, 0, 0.04, 0.04, 0.035, 0.08]  # the last but one: a clock that trembles
    ids = [tracker.update(moment(i, time_s), seen([LEFT], time_s)).ids.tolist() for i, time_s in enumerate(times)]
    assert ids == [[UNTRACKED], *[[1]] * 6]


@pytest.mark.parametrize("time_s", [0.0, 100.0])
def test_a_time_that_goes_back_or_far_ahead_begins_anew_and_no_id_comes_twice(time_s):
    tracker = Tracker(gap=1.0, fps=FPS)
    assert ids_at(tracker, [LEFT, RIGHT], range(10))[-1].tolist() == [1, 2]
    again = [tracker.update(moment(i, time_s + i / FPS), seen([LEFT], 0.4)).ids.tolist() for i in range(3)]
    assert again == [[UNTRACKED], [3], [3]]


def test_another_frame_size_begins_anew_and_no_id_comes_twice():
    tracker = Tracker(fps=FPS)
    assert ids_at(tracker, [LEFT, RIGHT], range(10))[-1].tolist() == [1, 2]
    assert ids_at(tracker, [LEFT, RIGHT], range(10, 13), frame_hw=(300, 400)).tolist() == [
        [UNTRACKED] * 2,
        *[[3, 4]] * 2,
    ]


def test_each_source_has_tracks_of_its_own_and_ids_are_different_in_all():
    tracker, door, yard = Tracker(fps=FPS), SourceInfo("door"), SourceInfo("yard")
    found = []
    for index in range(4):
        for source, disc in ((door, LEFT), (yard, LEFT)):
            frame = dataclasses.replace(moment(index, index / FPS), source=source)
            found.append(tracker.update(frame, seen([disc], index / FPS)).ids.tolist())
    assert found == [[UNTRACKED], [UNTRACKED], *[[1], [2]] * 3]


def test_a_source_that_had_no_frame_for_the_longest_is_forgotten():
    kept = BySource(lambda frame: [])
    frames = [dataclasses.replace(moment(0), source=SourceInfo(str(index))) for index in range(MOST_SOURCES + 1)]
    first, second = kept.of(frames[0]), kept.of(frames[1])
    assert kept.of(frames[0]) is first
    for frame in frames[2:]:
        kept.of(frame)
    assert kept.of(frames[0]) is first and kept.of(frames[1]) is not second


def test_the_rate_of_a_source_is_its_own():
    slow = SourceInfo("slow", fps=Fraction(1, 2))
    tracker = Tracker(gap=0.0, fps=FPS)
    ids = [
        tracker.update(dataclasses.replace(moment(i, 2.0 * i), source=slow), seen([LEFT], 0)).ids.tolist()
        for i in range(3)
    ]
    assert ids == [[UNTRACKED], [1], [1]]


def test_a_track_stays_in_its_class_unless_it_is_told_otherwise():
    for by_class, expected in ((True, [[1], [UNTRACKED], [2]]), (False, [[1], [1], [1]])):
        tracker = Tracker(by_class=by_class)
        ids_at(tracker, [LEFT], range(9))
        ids = [ids_at(tracker, [LEFT._replace(label=index > 9)], [index]).tolist()[0] for index in range(9, 12)]
        assert ids == expected


def test_two_classes_in_one_place_are_two_tracks():
    ids = ids_at(Tracker(), [LEFT, LEFT._replace(label=1)], range(5))
    assert ids[1:].tolist() == [[1, 2]] * 4


def test_a_weak_object_goes_on_with_a_track_and_begins_none():
    tracker, weak = Tracker(start_conf=0.5), LEFT._replace(score=0.2)
    assert (ids_at(tracker, [weak], range(5)) == UNTRACKED).all()
    assert ids_at(tracker, [LEFT], range(5, 8))[-1].tolist() == [1]
    assert ids_at(tracker, [weak], range(8, 12)).tolist() == [[1]] * 4


def test_objects_of_no_size_and_many_empty_frames_are_taken():
    tracker = Tracker()
    for index in range(5):
        point = seen([Disc(50, 50, 0, 0, 0)], 0)
        assert len(tracker.update(moment(index, index / FPS), point).ids) == 1
        assert len(tracker.update(moment(index, index / FPS + 0.01), seen([], 0)).ids) == 0


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ({"gap": -1}, "gap must be a number between 0 and 3600, not -1."),
        ({"gap": float("nan")}, "gap must be a number between 0 and 3600, not nan."),
        ({"confirm": 1}, "confirm must be a whole number from 2 to 1000, not 1."),
        ({"start_conf": "high"}, "start_conf must be a number between 0 and 1, not 'high'."),
        ({"overlap": 0}, "overlap must be a number between 0.01 and 0.5, not 0."),
        ({"by_class": "yes"}, "by_class must be True or False, not 'yes'."),
        ({"fps": 0}, "fps must be a number between 0.001 and 10000, not 0."),
    ],
)
def test_what_makes_no_sense_is_one_sentence(argument, sentence):
    with pytest.raises(UsageError) as refusal:
        Tracker(**argument)
    assert str(refusal.value) == sentence

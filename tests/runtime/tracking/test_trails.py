# SPDX-License-Identifier: Apache-2.0
"""Trails are where objects came from, as long as they are told, and drawn in the colours of the ids."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.reference.overlay import PALETTE_BGR
from centermask_runtime.tracking.counting import Counting, Counts
from centermask_runtime.tracking.regions import Region
from centermask_runtime.tracking.regions_file import Regions
from centermask_runtime.tracking.trails import Trails, draw_regions
from tests.support.moving_discs import FPS, FRAME_HW, NAMES, Disc, moment, seen

DISC = Disc(60, 100, 50, 0, 10)


def trails_of(frames, trail_s=2.0, track=3, with_time=True):
    trails = Trails(trail_s, FPS)
    for index in frames:
        found = dataclasses.replace(seen([DISC], index / FPS), ids=np.array([track]))
        trails.add(moment(index, index / FPS if with_time else None), found)
    return trails


@pytest.mark.parametrize("with_time", [True, False])
def test_a_trail_is_the_way_of_the_lower_edge_over_the_last_seconds(with_time):
    found = trails_of(range(40), trail_s=1.0, with_time=with_time).points(3)
    truth = [(60 + 50 * index / FPS, 110) for index in range(14, 40)]
    np.testing.assert_allclose(found, truth, atol=1e-4)


def test_a_trail_ends_when_its_object_is_gone_for_its_length_and_with_another_video():
    trails = trails_of(range(10), trail_s=1.0)
    trails.add(moment(30, 30 / FPS), seen([], 0))
    assert [x for x, _ in trails.points(3)] == pytest.approx([70, 72, 74, 76, 78])
    trails.add(moment(35, 35 / FPS), seen([], 0))
    assert trails.points(3) == []
    trails = trails_of(range(10))
    trails.add(moment(0, 0.0), seen([], 0))
    assert trails.points(3) == []


def test_objects_without_a_track_and_trails_of_no_length_draw_nothing():
    for trails in (trails_of(range(10), track=-1), trails_of(range(10), trail_s=0)):
        picture = np.zeros((*FRAME_HW, 3), np.uint8)
        trails.draw(picture)
        assert not picture.any()


def test_a_trail_is_drawn_where_it_is_in_the_colour_of_its_id():
    picture = np.zeros((*FRAME_HW, 3), np.uint8)
    trails_of(range(40)).draw(picture)
    colour, own = picture[109, 100] / np.linalg.norm(picture[109, 100]), np.array(PALETTE_BGR[3], float)
    np.testing.assert_allclose(colour, own / np.linalg.norm(own), atol=0.02)
    rows, columns = np.nonzero(picture.any(2))
    assert (rows.min(), rows.max()) == pytest.approx((109.5, 109.5), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((60, 60 + 50 * 39 / FPS), abs=2)


def test_zones_lines_and_an_arrow_to_where_in_is_are_drawn():
    zone = Region("yard", "zone", ((200.0, 20.0), (300.0, 20.0), (300.0, 120.0), (200.0, 120.0)))
    line = Region("gate", "line", ((40.0, 200.0), (160.0, 200.0)))
    counts = Counting(Regions((zone, line)), NAMES).add(moment(0), seen([], 0))
    picture = np.full((*FRAME_HW, 3), 128, np.uint8)
    draw_regions(picture, counts)
    for x, y in ((250, 119), (299, 70), (80, 199), (130, 199)):
        around = picture[y - 2 : y + 3, x - 2 : x + 3]
        assert around.max() > 180 and around.min() < 60, "white on dark, between two pixels"
    assert (picture[190, 95:106] != 128).any() and (picture[210, 95:106] == 128).all(), "in is up"


@pytest.mark.parametrize("scale", [1, 4])
def test_the_white_letters_of_a_region_stand_in_their_dark_edge_to_the_last_one(scale):
    line = Region("a gate with a long name", "line", ((150.0 * scale, 120.0), (150.0 * scale, 122.0)))
    picture = np.full((300 * scale, 400 * scale, 3), 128, np.uint8)
    draw_regions(picture, [Counts(line)])
    letters = picture[:110, :, 0]
    white, dark = (np.flatnonzero(found.any(0)) for found in (letters > 200, letters < 80))
    for end in (0, -1):
        assert abs(white[end] - dark[end]) <= 3 * scale
    assert dark[0] < white[0] and white[-1] < dark[-1]


def test_a_length_that_makes_no_sense_is_one_sentence():
    with pytest.raises(UsageError, match="trail must be a number between 0 and 3600, not -1"):
        Trails(-1)

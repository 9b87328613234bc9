# SPDX-License-Identifier: Apache-2.0
"""Trails and regions come onto the pictures of another sink, and onto no other picture."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.reference.overlay import DEFAULT_STYLE, draw
from centermask_runtime.sinks.pictures import PictureSink
from centermask_runtime.sinks.tracked import Tracked, TrackedSink
from centermask_runtime.tracking.regions import Region
from centermask_runtime.tracking.regions_file import Regions
from tests.support.moving_discs import FPS, NAMES, Disc, moment, seen
from tests.support.small_pictures import names_in

ZONE = Region("yard", "zone", ((200.0, 20.0), (300.0, 20.0), (300.0, 120.0), (200.0, 120.0)))
DISC = Disc(60, 100, 50, 0, 10)


def found_at(index):
    return dataclasses.replace(seen([DISC], index / FPS), ids=np.array([1]))


@pytest.mark.parametrize("given", [True, False])
def test_the_pictures_of_another_sink_get_trails_and_regions(tmp_path, given):
    with TrackedSink(PictureSink(tmp_path), Tracked(Regions((ZONE,))), NAMES) as sink:
        assert sink.style == DEFAULT_STYLE
        for index in range(20):
            frame, found = moment(index, index / FPS), found_at(index)
            plain = draw(frame.image, found, DEFAULT_STYLE)
            picture = plain.copy() if given else None
            sink.add(frame, found, picture)
            if picture is not None:
                np.testing.assert_array_equal(picture, plain)
    written = cv2.imread(str(tmp_path / "clip_000019.png"))
    changed = (written != plain).any(2)
    assert changed[107:113, 60:85].any(1).sum() >= 1 and changed[15:125, 195:305].any() and not changed[140:].any()
    assert len(names_in(tmp_path)) == 20


def test_without_trails_and_regions_the_pictures_are_as_they_were(tmp_path):
    with TrackedSink(PictureSink(tmp_path), Tracked(trail_s=0), NAMES) as sink:
        for index in range(3):
            sink.add(moment(index, index / FPS), found_at(index))
    expected = draw(moment(2).image, found_at(2), DEFAULT_STYLE)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "clip_000002.png")), expected)


def test_its_end_is_the_other_sinks_end(tmp_path):
    from centermask_runtime.sinks.video import VideoSink
    from centermask_runtime.sources.source import SourceInfo

    info = SourceInfo("clip", size_hw=(240, 320), fps=None, is_video=True)
    with TrackedSink(VideoSink(tmp_path / "clip.mp4", info), Tracked(), NAMES) as sink:
        sink.add(moment(0, 0.0), found_at(0))
    assert names_in(tmp_path) == ["clip.mp4"]
    small = Regions((dataclasses.replace(ZONE, points=((0.0, 0.0), (900.0, 0.0), (0.0, 9.0))),))
    with pytest.raises(DataError), TrackedSink(VideoSink(tmp_path / "other.mp4", info), Tracked(small), NAMES) as sink:
        sink.add(moment(0, 0.0), found_at(0))
    assert names_in(tmp_path) == ["clip.mp4"]

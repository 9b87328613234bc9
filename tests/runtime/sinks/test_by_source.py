# SPDX-License-Identifier: Apache-2.0
"""Each source has its own output, whatever the order in which frames come."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.sinks.by_source import BySourceSink
from centermask_runtime.sources.source import Frame, SourceInfo
from centermask_runtime.sources.video import VideoSource
from tests.support.small_pictures import SIZE_HW, names_in, picture

ALL = SourceInfo("streams", is_live=True)
DOOR, GATE = (SourceInfo(name, fps=Fraction(10), is_video=True, is_live=True, size_hw=SIZE_HW) for name in "dg")


def frame(source, index, size_hw=SIZE_HW):
    return Frame(picture(index, size_hw), f"{source.name}_{index:06d}", index, index / 10, None, source)


def frames_of(path):
    with VideoSource(path) as source:
        return [one.image for one in source]


def added(folder, frames):
    with BySourceSink(folder, ALL) as sink:
        for one in frames:
            sink.add(one, None, one.image)


def test_mixed_streams_become_a_video_each(tmp_path):
    added(tmp_path, [frame(source, index) for index in range(4) for source in (DOOR, GATE)])
    assert names_in(tmp_path) == ["d.mp4", "g.mp4"]
    for name in ("d.mp4", "g.mp4"):
        found = frames_of(tmp_path / name)
        assert [round((int(image[40, 40, 0]) - 20) / 8) for image in found] == list(range(4))


def test_a_stream_that_goes_on_in_another_size_goes_on_in_another_video(tmp_path):
    large = dataclasses.replace(DOOR, size_hw=(64, 96))
    added(tmp_path, [frame(DOOR, 0), frame(DOOR, 1), frame(large, 2, (64, 96)), frame(DOOR, 3)])
    assert names_in(tmp_path) == ["d.mp4", "d_2.mp4", "d_3.mp4"]
    assert [image.shape[:2] for image in frames_of(tmp_path / "d_2.mp4")] == [(64, 96)]


def test_images_between_videos_stay_pictures(tmp_path):
    clip = SourceInfo("a/clip", fps=Fraction(10), is_video=True, size_hw=SIZE_HW)
    image = SourceInfo("images")
    added(tmp_path, [dataclasses.replace(frame(image, 0), name="x.png"), frame(clip, 0), frame(clip, 1)])
    assert names_in(tmp_path) == ["a", "x.png"] and len(frames_of(tmp_path / "a" / "clip.mp4")) == 2


def test_an_error_leaves_no_video_behind(tmp_path):
    with pytest.raises(DataError), BySourceSink(tmp_path, ALL) as sink:
        for source in (DOOR, GATE):
            sink.add(frame(source, 0), None, picture(0))
        raise DataError("The end.")
    assert names_in(tmp_path) == []

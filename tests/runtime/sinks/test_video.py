# SPDX-License-Identifier: Apache-2.0
"""Drawn frames become MP4 files that play, or no file at all. Real encoders."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.sinks.coco_json import CocoSink
from centermask_runtime.sinks.pictures import PictureSink
from centermask_runtime.sinks.sink import Sink
from centermask_runtime.sinks.video import VideoSink
from centermask_runtime.sinks.video_writer import VideoWriter
from centermask_runtime.sources.source import Frame, SourceInfo
from centermask_runtime.sources.video import VideoSource
from tests.support.small_pictures import SIZE_HW, names_in, picture, write_video


def frames_of(path):
    with VideoSource(path) as source:
        return list(source)


def square():
    """One object in a frame of SIZE_HW."""
    rects = np.array([(20, 20, 50, 40)], np.int32)
    masks = BoxMasks.from_crops(SIZE_HW, rects, [np.ones((20, 30), bool)])
    scores = np.array([0.9], np.float32)
    return Instances(SIZE_HW, rects.astype(np.float32), scores, np.zeros(1, np.int32), masks, ("cell",), (1,))


def test_a_video_comes_back_as_it_was_written(tmp_path):
    """Within 6 grey levels in flat areas and 20 near an edge, because H.264 is lossy."""
    path = write_video(tmp_path / "v.mp4")
    found = frames_of(path)
    assert [frame.index for frame in found] == list(range(12))
    assert [frame.time_s for frame in found] == pytest.approx([i / 10 for i in range(12)], abs=1e-4)
    assert found[3].name == "v_000003"
    for index, frame in enumerate(found):
        difference = np.abs(frame.image.astype(int) - picture(index))
        assert difference[20:].max() <= 6 and difference[:8, :8].max() <= 20
    assert names_in(tmp_path) == ["v.mp4"]


def test_uneven_times_are_kept(tmp_path):
    times = [5.0, 5.04, 5.5, 7.25]
    with VideoWriter(tmp_path / "v.mp4", SIZE_HW, Fraction(25)) as writer:
        for index, time_s in enumerate(times):
            writer.write(picture(index), time_s)
    found = [frame.time_s for frame in frames_of(tmp_path / "v.mp4")]
    assert found == pytest.approx([time_s - 5 for time_s in times], abs=1e-4)


def test_times_that_do_not_rise_still_make_a_video(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", SIZE_HW, Fraction(25)) as writer:
        for index, time_s in enumerate([0.0, 0.1, 0.1, 0.05]):
            writer.write(picture(index), time_s)
    assert len(frames_of(tmp_path / "v.mp4")) == 4


def test_browsers_can_play_it(tmp_path):
    """H.264 in yuv420p, the index before the data."""
    path = write_video(tmp_path / "v.mp4")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    content = path.read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")


def test_odd_sides_are_made_even_by_repeating_the_edge(tmp_path):
    path = write_video(tmp_path / "v.mp4", size_hw=(47, 63))
    image = frames_of(path)[0].image
    assert image.shape == (48, 64, 3)
    assert np.abs(image[47, 30:].astype(int) - image[46, 30:]).max() <= 3


def test_an_error_inside_leaves_no_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), VideoWriter(path, SIZE_HW, Fraction(10)) as writer:
        writer.write(picture(0))
        raise ZeroDivisionError
    assert names_in(tmp_path) == ["v.mp4"] and path.read_text() == "old"


def test_a_video_without_frames_is_no_file(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", SIZE_HW, Fraction(10)):
        pass
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("writer", [lambda p: VideoWriter(p, SIZE_HW, Fraction(10)), lambda p: CocoSink(p, (), ())])
def test_an_output_that_cannot_be_written_is_a_usage_error(tmp_path, writer):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "out", tmp_path / "folder"):
        with pytest.raises(UsageError, match=r"cannot be written, .*: choose another output"):
            writer(path)


def test_missing_folders_of_an_output_are_made(tmp_path):
    assert write_video(tmp_path / "a" / "b" / "v.mp4").is_file()


def test_a_sink_draws_the_frames_itself_or_takes_the_picture_that_is_there(tmp_path):
    info = SourceInfo("v", size_hw=SIZE_HW, fps=Fraction(10), is_video=True)
    style = DrawStyle(labels=False)
    frames = [Frame(picture(index), f"v_{index:06d}", index, 2 + index / 5) for index in range(4)]
    with VideoSink(tmp_path / "own.mp4", info, style) as own, VideoSink(tmp_path / "given.mp4", info, style) as given:
        for frame in frames:
            own.add(frame, square())
            given.add(frame, square(), draw(frame.image, square(), style))
    assert (tmp_path / "own.mp4").read_bytes() == (tmp_path / "given.mp4").read_bytes()
    found = frames_of(tmp_path / "own.mp4")
    assert [frame.time_s for frame in found] == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-4)
    assert np.abs(found[0].image[20:40, 20:50].astype(int) - picture(0)[20:40, 20:50]).mean() > 20


def test_without_a_size_the_first_frame_says_it_and_another_size_is_refused(tmp_path):
    sentence = "has frames of 64 x 48 and one of 80 x 60 came: give frames of one size"
    with pytest.raises(DataError, match=sentence), VideoSink(tmp_path / "v.mp4", SourceInfo("v")) as sink:
        sink.add(Frame(picture(0), "small", 0, None), square())
        big = replace(square(), frame_hw=(60, 80), masks=replace(square().masks, frame_hw=(60, 80)))
        sink.add(Frame(picture(1, (60, 80)), "big", 1, None), big)
    assert names_in(tmp_path) == []


def test_a_video_never_overwrites_its_own_source(tmp_path):
    path = write_video(tmp_path / "v.mp4", count=2)
    content = path.read_bytes()
    (tmp_path / "link.mp4").hardlink_to(path)
    with VideoSource(path) as source:
        for target in (path, tmp_path / "link.mp4"):
            with pytest.raises(UsageError, match="is the source itself; choose another output"):
                VideoSink(target, source.info)
    assert path.read_bytes() == content


def test_every_sink_keeps_the_protocol(tmp_path):
    sinks: list[Sink] = [
        CocoSink(tmp_path / "r.json", ("cell",), (1,)),
        VideoSink(tmp_path / "v.mp4", SourceInfo("v")),
        PictureSink(tmp_path / "pictures"),
    ]
    assert [sink.style is None for sink in sinks] == [True, False, False]
    for sink in sinks:
        with sink:
            sink.add(Frame(picture(0), "a.png", 0, None), square())
    assert names_in(tmp_path) == ["pictures", "r.json", "v.mp4"] and names_in(tmp_path / "pictures") == ["a.png"]

# SPDX-License-Identifier: Apache-2.0
"""Live streams from real servers on this machine: cut, stalled, changed, gone; none of them stops another."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

import numpy as np
import pytest

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.sources import connections, live
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.options import SourceOptions
from centermask_runtime.sources.streams import StreamsSource
from tests.support.live_server import FPS, LiveServer
from tests.support.small_pictures import write_video

RED, GREEN = (0, 0, 255), (0, 255, 0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(live, "FIRST_WAIT_S", 0.1)
    monkeypatch.setattr(live, "LONGEST_WAIT_S", 0.2)


def is_of(frame, colour):
    return np.abs(frame.image.reshape(-1, 3).astype(int) - colour).max() < 40


def taken(source, until, most_s=20):
    """Frames until a condition on all of them holds."""
    frames, end = [], time.monotonic() + most_s
    for frame in source:
        frames.append(frame)
        if until(frames):
            return frames
        assert time.monotonic() < end, f"{len(frames)} frames in {most_s} s"
    raise AssertionError(f"ended after {len(frames)} frames")


def test_a_stream_is_read_in_real_time_with_its_times():
    with LiveServer() as server, open_source(server.url) as source:
        frames = taken(source, lambda frames: len(frames) == 15)
    assert source.info.is_live and source.info.is_video and source.info.count is None
    assert frames[0].name == "127.0.0.1_camera_000000" and [frame.index for frame in frames] == list(range(15))
    steps = np.diff([frame.time_s for frame in frames])
    assert steps == pytest.approx(1 / FPS, abs=2e-3) and frames[3].source.size_hw == (48, 64)


def test_jpeg_pictures_of_a_web_camera_have_the_times_at_which_they_come():
    with LiveServer(jpeg_fps=5) as server, open_source(server.url, SourceOptions(max_frames=8)) as source:
        times = [frame.time_s for frame in source]
    assert source.info.fps is None, "FFmpeg says 25, which nobody sent"
    assert times[0] == 0 and np.all(np.diff(times) > 0) and times[-1] > 5 / 5, "at 25 per second they took 0.28 s"


def test_several_addresses_of_the_web_without_an_end_are_read_at_once():
    with LiveServer(RED) as one, LiveServer(GREEN) as other, open_source([one.url, other.url]) as source:
        assert [part.name for part in source.info.parts] == ["127.0.0.1_camera", "127.0.0.1_camera_2"]
        frames = taken(source, lambda frames: len({frame.source.name for frame in frames}) == 2)
    for frame in frames:
        assert is_of(frame, GREEN if frame.source.name.endswith("_2") else RED)


def test_streams_of_the_web_among_files_come_in_turn_each_under_its_name(tmp_path):
    write_video(tmp_path / "a.mp4", count=1)
    with LiveServer() as server:
        words = [str(tmp_path / "a.mp4"), server.url, server.url]
        with open_source(words, SourceOptions(max_frames=2)) as source:
            names = [frame.source.name for frame in source]
    assert names == ["a", *["127.0.0.1_camera"] * 2, *["127.0.0.1_camera_2"] * 2]


def test_a_stream_that_is_cut_comes_back_in_another_size_and_time_goes_on():
    told = []
    with LiveServer() as server, open_source(server.url, SourceOptions(notice=told.append)) as source:
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 5:
                server.size_hw = (96, 64)
                server.cut.set()
            if frame.image.shape[0] == 96 and len(frames) > 12:
                break
    sizes = [frame.image.shape[:2] for frame in frames]
    change = sizes.index((96, 64))
    assert sizes == [(48, 64)] * change + [(96, 64)] * (len(sizes) - change) and change >= 5
    assert [frame.source.size_hw for frame in frames] == sizes and len({id(frame.source) for frame in frames}) == 2
    assert np.all(np.diff([frame.time_s for frame in frames]) > 0)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert len(told) == 2 and "is lost" in told[0] and "is back after" in told[1] and "64 x 96 pixels" in told[1]
    assert source.states[0].connections == 2 and server.requests >= 2


def test_a_stall_has_a_time_out_and_stops_no_other_stream():
    told = []
    options = SourceOptions(stall=1.0, notice=told.append)
    with LiveServer(RED) as one, LiveServer(GREEN) as other, StreamsSource([one.url, other.url], options) as source:
        names = [part.name for part in source.info.parts]
        assert names == ["127.0.0.1_camera", "127.0.0.1_camera_2"]
        colours = dict(zip(names, (RED, GREEN), strict=True))

        def of(frames, name):
            return [frame for frame in frames if frame.source.name == name]

        frames = taken(source, lambda frames: min(len(of(frames, name)) for name in names) >= 5)
        one.stalled = True
        frames += taken(source, lambda frames: told and len(of(frames, names[1])) >= 10)
        one.stalled = False
        frames += taken(source, lambda frames: len(of(frames, names[0])) >= 5)
    assert all(is_of(frame, colours[frame.source.name]) for frame in frames), "no frame is another stream's"
    steps = np.diff([frame.time_s for frame in of(frames, names[1])])
    assert steps.max() < 0.9, "the other one went on"
    assert "127.0.0.1_camera is lost" in told[0] and "127.0.0.1_camera is back" in told[1] and len(told) == 2


def test_in_realtime_the_newest_frame_comes_and_the_others_are_counted():
    with LiveServer() as server, open_source(server.url, SourceOptions(realtime=True)) as source:
        frames = []
        for frame in source:
            frames.append(frame)
            time.sleep(0.3)
            if len(frames) == 4:
                break
        state = source.states[0]
    assert np.diff([frame.index for frame in frames]).min() >= 4
    assert state.dropped >= 12 and state.dropped + len(frames) <= state.frames + 1


def test_a_stream_that_does_not_come_back_is_given_up_and_told():
    told = []
    server = LiveServer()
    with open_source(server.url, SourceOptions(give_up=0.5, notice=told.append)) as source:
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 3:
                server.close()
    assert len(frames) >= 3
    assert source.skipped == [told[-1]] and "was given up after 0.5 seconds without a picture" in told[-1]


def test_where_none_answers_a_sentence_says_so_at_once_and_one_that_does_is_enough():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{free.getsockname()[1]}/camera"
    with pytest.raises(DataError, match=r"cannot be opened as a video .*: check the address and the connection"):
        StreamsSource([gone, f"{gone}/2"])
    with LiveServer() as server, StreamsSource([gone, server.url]) as source:
        frames = taken(source, lambda frames: len(frames) == 3)
        assert {frame.source.name for frame in frames} == {"127.0.0.1_camera_2"}
        assert [state.connections for state in source.states] == [0, 1]


def test_an_address_that_never_answers_has_an_end(monkeypatch):
    monkeypatch.setattr(connections, "OPEN_S", 0.5)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        begun = time.monotonic()
        with pytest.raises(DataError, match="it did not answer in time"):
            open_source(f"tcp://127.0.0.1:{mute.getsockname()[1]}")
    assert time.monotonic() - begun < 5


def test_the_password_of_a_stream_is_never_shown():
    with pytest.raises(DataError) as refused:
        open_source("rtsp://user:secret@127.0.0.1:9/1")
    assert "secret" not in str(refused.value) and "rtsp://127.0.0.1:9/1" in str(refused.value)


def test_frames_of_a_streams_list_come_in_turn_also_from_files(tmp_path):
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}.mp4", count=6)
    (tmp_path / "all.streams").write_text("a.mp4\nb.mp4\n")
    with open_source(tmp_path / "all.streams", SourceOptions(max_frames=5)) as source:
        frames = list(source)
    names = [part.name for part in source.info.parts]
    assert names == ["a", "b"] and source.info.files == (("a", tmp_path / "a.mp4"), ("b", tmp_path / "b.mp4"))
    for name in names:
        own = [frame for frame in frames if frame.source.name == name]
        assert [frame.name for frame in own] == [f"{name}_{index:06d}" for index in range(5)], (
            "a file's frames all come"
        )
        assert [frame.time_s for frame in own] == pytest.approx(np.arange(5) / 10)


def test_streams_and_files_together_are_refused(tmp_path):
    write_video(tmp_path / "a.mp4", count=1)
    with pytest.raises(UsageError, match=r"rtsp://127\.0\.0\.1/1 is a stream and .*a\.mp4 is none: streams"):
        open_source([tmp_path / "a.mp4", "rtsp://me:secret@127.0.0.1/1"])


def test_a_camera_that_is_not_there_is_one_sentence():
    for given in (97, "97"):
        with pytest.raises(DataError, match=r"There is no camera 97, .* on this machine|Camera 97 gives no pictures"):
            open_source(given)


def test_closing_ends_all_threads():
    before = threading.active_count()
    with LiveServer() as server:
        with open_source(server.url) as source:
            taken(source, lambda frames: len(frames) == 2)
        end = time.monotonic() + 10
        while any(thread.name.startswith("read-") for thread in threading.enumerate()):
            assert time.monotonic() < end
            time.sleep(0.01)
    assert threading.active_count() <= before + 3  # of the server


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="cameras are files in Linux only")
@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"x"), lambda path: path.mkdir(), os.mkfifo])
def test_what_is_called_as_a_camera_and_is_no_device_is_one_sentence(tmp_path, monkeypatch, make):
    make(tmp_path / "video3")
    monkeypatch.setattr(connections, "DEVICES", tmp_path)
    with pytest.raises(DataError, match="video3 is no camera's device: give another number"):
        open_source(3)
    with pytest.raises(DataError, match="There is no camera 4, there is none on this machine"):
        open_source(4)

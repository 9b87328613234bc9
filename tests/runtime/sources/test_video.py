# SPDX-License-Identifier: Apache-2.0
"""Videos in: every frame with its time, damaged ends too. Real encoders and files."""

from __future__ import annotations

import re
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.sinks.video_writer import VideoWriter
from centermask_runtime.sources.decoding import Tally
from centermask_runtime.sources.video import VideoSource
from tests.support.small_pictures import SIZE_HW, picture, write_video


def frames_of(path):
    """All frames of a video that is whole."""
    with VideoSource(path) as source:
        found = list(source)
        assert source.skipped == []
    return found


def test_info_is_what_the_frames_are(tmp_path):
    with VideoSource(write_video(tmp_path / "v.mp4", fps=Fraction(30000, 1001))) as source:
        info = source.info
    assert (info.name, info.is_video, info.files) == ("v", True, (("v", tmp_path / "v.mp4"),))
    assert (info.fps, info.count, info.size_hw) == (Fraction(30000, 1001), 12, SIZE_HW)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_video_cut_off_gives_what_can_be_decoded_and_then_says_so(tmp_path, part):
    rng = np.random.default_rng(0)
    path = tmp_path / "v.mp4"
    with VideoWriter(path, SIZE_HW, Fraction(10)) as writer:
        for _ in range(40):
            writer.write(rng.integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    try:
        with VideoSource(path) as source:
            found = [frame.index for frame in source]
    except DataError as error:  # nothing at all could be read
        assert part == 0.2 and re.search(r"v\.mp4 (is damaged|ends after)", str(error))
        return
    assert found == list(range(len(found))) and 0 < len(found) < 40
    (sentence,) = source.skipped
    assert re.search(r"v\.mp4 (is damaged|ends after)", sentence)


def test_a_clip_cut_without_encoding_again_is_whole(tmp_path):
    """From frame 30 of keyframes 0, 24, 48: the file holds 24 to 29 too, and its edit list hides them."""
    path, cut = tmp_path / "v.mp4", tmp_path / "cut.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "24", "bf": "0", "sc_threshold": "0"})
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        for index in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index % 12), format="bgr24")))
        container.mux(stream.encode())
    with av.open(str(path)) as source, av.open(str(cut), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        start = round(3 / source.streams.video[0].time_base)
        source.seek(start, stream=source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, stream
                target.mux(packet)
    found = frames_of(cut)
    with av.open(str(cut)) as container:
        assert container.streams.video[0].frames == 36 > len(found), "this file hides nothing"
    assert len(found) == 30
    assert np.abs(found[0].image[20:].astype(int) - picture(30 % 12)[20:]).max() <= 6


def test_a_video_without_its_index_is_a_data_error(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"v\.mp4"):
        VideoSource(path)


def test_what_is_no_video_is_a_data_error(tmp_path):
    (tmp_path / "notes.mp4").write_text("these are notes" * 100)
    with pytest.raises(DataError, match=r"notes\.mp4 cannot be opened as a video"):
        VideoSource(tmp_path / "notes.mp4")
    with pytest.raises(DataError, match=r"none\.mp4 cannot be opened"):
        VideoSource(tmp_path / "none.mp4")


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(DataError, match="no pictures in it"):
        VideoSource(path)


def test_a_phone_video_is_turned_as_it_is_seen(tmp_path):
    """A display matrix of 90 degrees counterclockwise moves the bright upper left corner to the lower left."""
    stream_type = av.video.stream.VideoStream
    if not hasattr(stream_type, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a display matrix")
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = SIZE_HW
        stream.pix_fmt = "yuv420p"
        stream.set_display_rotation(90)
        for packet in stream.encode(av.VideoFrame.from_ndarray(picture(0), format="bgr24")):
            container.mux(packet)
        container.mux(stream.encode(None))
    with VideoSource(path) as source:
        image = next(iter(source)).image
    assert image.shape == (64, 48, 3) and source.info.size_hw == (64, 48)
    assert image[-8:, :6].min() > 230 and image[:8, :6, 1].max() < 100


def test_real_videos_have_as_many_frames_as_they_declare(shared_data):
    path = shared_data / "videos" / "highway-720p.mp4"
    with VideoSource(path) as source:
        found, info = list(source), source.info
    assert (info.count, info.size_hw, info.fps) == (len(found), (720, 1280), 25)
    assert [frame.time_s for frame in found] == pytest.approx([i / 25 for i in range(38)])


def test_another_size_in_the_middle_ends_a_video_and_is_said(tmp_path):
    """Two raw H.264 streams of different sizes behind one another, as a camera writes when its setting changes."""
    with (tmp_path / "v.h264").open("wb") as file:
        for size_hw in (SIZE_HW, (64, 48)):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.height, encoder.width = size_hw
            encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 10)
            encoder.options = {"tune": "zerolatency"}
            for index in range(5):
                image = av.VideoFrame.from_ndarray(picture(index, size_hw), format="bgr24")
                for packet in encoder.encode(image):
                    file.write(bytes(packet))
            for packet in encoder.encode(None):
                file.write(bytes(packet))
    with VideoSource(tmp_path / "v.h264") as source:
        assert [frame.image.shape[:2] for frame in source] == [SIZE_HW] * 5
    assert source.skipped == [f"The video {tmp_path / 'v.h264'} changes its size at frame 5; cut it there."]


def test_a_video_is_opened_once_and_its_frames_are_taken_once(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4")
    opened = []
    monkeypatch.setattr(
        av, "open", lambda *args, _open=av.open, **kwargs: opened.append(args) or _open(*args, **kwargs)
    )
    with VideoSource(path) as source:
        assert source.info.size_hw == SIZE_HW and len(list(source)) == 12
        with pytest.raises(UsageError, match="were taken already: open the video again"):
            next(iter(source))
    assert len(opened) == 1


def test_without_pyav_a_sentence_says_what_to_install(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"^av is needed for reading a video: pip install 'centermask\[video\]'\.$"):
        VideoSource(path)
    with pytest.raises(UsageError, match=r"^av is needed for writing a video: pip install 'centermask\[video\]'\.$"):
        VideoWriter(tmp_path / "w.mp4", SIZE_HW, Fraction(10))


@pytest.mark.parametrize("codec", [b"zzzz", b"encv"])
def test_a_codec_that_nobody_knows_is_one_sentence(tmp_path, codec):
    path = write_video(tmp_path / "v.mp4")
    before, _, after = path.read_bytes().rpartition(b"avc1")
    path.write_bytes(before + codec + after)
    with pytest.raises(
        DataError, match=r"v\.mp4 has pictures in a codec that is unknown here, or encrypted: encode it"
    ):
        VideoSource(path)


def test_the_places_of_damage_are_told_from_the_first_to_the_last():
    tally = Tally()
    for time_s in (0.3, None, 0.5, 0.2):
        tally.add(time_s)
    assert tally.damaged == 4 and tally.times_s == [0.2, 0.5]

# SPDX-License-Identifier: Apache-2.0
"""As many frames out as in, at their times: of films as people have them, whole, in parts and damaged."""

from __future__ import annotations

import av
import numpy as np
import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.sinks.video import VideoSink
from centermask_runtime.sources.options import SourceOptions
from centermask_runtime.sources.video import VideoSource
from tests.support.clips import COUNT, FILMS, UNEVEN_MS, write
from tests.support.small_pictures import picture

MS = 1e-3


def read(path, **options):
    with VideoSource(path, SourceOptions(**options)) as source:
        return list(source), source


def copied(path, target):
    """All frames of a film through a sink, without drawing -> the film that it wrote."""
    with VideoSource(path) as source, VideoSink(target, source.info) as sink:
        for frame in source:
            sink.add(frame, None, frame.image)
    return target


def is_picture(image, index):
    return np.abs(image[20:].astype(int) - picture(index % 12, image.shape[:2])[20:]).mean() < 12


@pytest.mark.parametrize("name", FILMS)
def test_frames_in_are_frames_out_at_their_times(tmp_path, name):
    expected = write(tmp_path / name, **FILMS[name])
    frames, source = read(tmp_path / name)
    assert source.skipped == [] and len(frames) == COUNT
    assert [frame.time_s for frame in frames] == pytest.approx(expected, abs=MS)
    assert all(is_picture(frame.image, frame.index) for frame in frames)
    again, source = read(copied(tmp_path / name, tmp_path / "out.mp4"))
    assert source.skipped == [] and len(again) == COUNT
    assert [frame.time_s for frame in again] == pytest.approx(expected, abs=MS)
    assert all(is_picture(frame.image, frame.index) for frame in again)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_phone_film_is_upright_before_and_after(tmp_path, turn):
    expected = write(tmp_path / "phone.mp4", turn=turn)
    target = copied(tmp_path / "phone.mp4", tmp_path / "out.mp4")
    for path in (tmp_path / "phone.mp4", target):
        frames, _ = read(path)
        turned = np.rot90(picture(0, (48, 64)), turn // 90)
        assert len(frames) == COUNT and frames[0].image.shape == turned.shape
        assert [frame.time_s for frame in frames] == pytest.approx(expected, abs=MS)
        assert np.abs(frames[0].image.astype(int) - turned).mean() < 12


@pytest.mark.parametrize("name", ["uneven.mp4", "open_gop.ts", "b_frames.mp4", "sound_first.mp4", "late_start.ts"])
@pytest.mark.parametrize(("start", "end"), [(0, 0.5), (0.43, 0.9), (0.3, None), (1.0, 1.4)])
def test_a_part_of_a_film_is_what_is_shown_in_that_time(tmp_path, name, start, end):
    times = write(tmp_path / name, **FILMS[name])
    frames, _ = read(tmp_path / name, start=start, end=end)
    wanted = [place for place, time_s in enumerate(times) if start <= time_s and (end is None or time_s < end)]
    assert [frame.time_s for frame in frames] == pytest.approx([times[place] for place in wanted], abs=MS)
    assert all(is_picture(frame.image, place) for frame, place in zip(frames, wanted, strict=True))


def test_each_third_frame_and_at_most_five(tmp_path):
    times = write(tmp_path / "a.mp4", times_ms=UNEVEN_MS)
    frames, source = read(tmp_path / "a.mp4", vid_stride=3, max_frames=5)
    assert [frame.index for frame in frames] == [0, 3, 6, 9, 12] and source.info.count == 5
    assert [frame.time_s for frame in frames] == pytest.approx(times[:15:3], abs=MS)
    assert [frame.name for frame in frames][-1] == "a_000012"


def test_a_time_behind_the_end_is_a_sentence(tmp_path):
    write(tmp_path / "a.mp4")
    with pytest.raises(DataError, match="has no frame in the time that was asked for: it ends earlier"):
        read(tmp_path / "a.mp4", start=100)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_what_is_damaged_in_the_middle_is_told_and_the_rest_goes_on(tmp_path, name):
    """Compared with what another reader makes of the same file, packet by packet."""
    rng = np.random.default_rng(0)
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "10", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(60):
            noise = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="bgr24")))
        container.mux(stream.encode(None))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = b"\xff" * 600
    path.write_bytes(content)
    frames, source = read(path)
    assert len(frames) >= 50 and frames[-1].time_s == pytest.approx(59 / 25, abs=MS)
    (sentence,) = source.skipped
    assert "is damaged in" in sentence and f"{len(frames)} frames could be decoded and were used" in sentence


def test_a_film_cut_off_at_its_end_gives_what_there_is(tmp_path):
    write(tmp_path / "whole.ts", options={"bf": "0"})
    content = (tmp_path / "whole.ts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(content[: len(content) * 3 // 4])
    frames, _ = read(tmp_path / "cut.ts")
    assert COUNT // 2 < len(frames) < COUNT and all(is_picture(frame.image, frame.index) for frame in frames)

# SPDX-License-Identifier: Apache-2.0
"""A drawn video sounds as its source does, at the same pictures, and its pixels have the same shape. Real codecs."""

from __future__ import annotations

from fractions import Fraction

import av
import pytest

from centermask_runtime.sinks.source_sound import SourceSound
from tests.support.small_pictures import write_video
from tests.support.sounding_videos import (
    drawn_again,
    first_picture_s,
    picture_times_ms,
    streams_of,
    tone_s,
    write_sounding,
)  # fmt: skip

EVEN_MS = range(0, 3000, 100)


@pytest.mark.parametrize(
    ("name", "sound", "becomes"),
    [
        ("v.mp4", "aac", "aac"),
        ("v.mkv", "libopus", "opus"),
        ("v.mkv", "flac", "flac"),
        ("v.mp4", "libmp3lame", "mp3float"),
        ("v.mkv", "pcm_s16le", "aac"),
        ("v.ts", "aac", "aac"),
        ("v.mkv", "ac3", "aac"),
    ],
)
def test_the_sound_is_heard_at_the_same_pictures(tmp_path, name, sound, becomes):
    """Within 15 ms, about half a packet: encoders spread the beginning of a tone."""
    path = write_sounding(tmp_path / name, EVEN_MS, sound=sound)
    assert drawn_again(path, tmp_path / "drawn.mp4") == []
    assert streams_of(tmp_path / "drawn.mp4") == [("video", "h264"), ("audio", becomes)]
    assert tone_s(tmp_path / "drawn.mp4") == pytest.approx(tone_s(path), abs=0.015)
    assert tone_s(path) == pytest.approx((1.0, 1.2), abs=0.05)


def test_copied_sound_is_the_same_bytes(tmp_path):
    path = write_sounding(tmp_path / "v.mp4", EVEN_MS)
    drawn_again(path, tmp_path / "drawn.mp4")

    def packets(file):
        with av.open(str(file)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    before, after = packets(path), packets(tmp_path / "drawn.mp4")
    assert len(after) >= len(before) - 2 and after == before[: len(after)]


def test_a_part_of_a_video_has_the_sound_of_that_part(tmp_path):
    path = write_sounding(tmp_path / "v.mp4", EVEN_MS)
    drawn_again(path, tmp_path / "drawn.mp4", keep=lambda frame: 0.5 <= frame.time_s < 1.5)
    assert picture_times_ms(tmp_path / "drawn.mp4") == pytest.approx(list(range(0, 1000, 100)), abs=0.1)
    assert tone_s(tmp_path / "drawn.mp4") == pytest.approx((0.5, 0.7), abs=0.05)
    with av.open(str(tmp_path / "drawn.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(1.0, abs=0.06)


def test_sound_that_begins_before_the_picture_stays_before_it(tmp_path):
    path = write_sounding(tmp_path / "v.mkv", range(1000, 3000, 100), tone_s=(0.5, 0.7))
    assert first_picture_s(path) == pytest.approx(1.0) and tone_s(path) == pytest.approx((-0.5, -0.3), abs=0.05)
    drawn_again(path, tmp_path / "drawn.mp4")
    assert tone_s(tmp_path / "drawn.mp4") == pytest.approx((-0.5, -0.3), abs=0.05)
    assert picture_times_ms(tmp_path / "drawn.mp4") == pytest.approx(list(range(0, 2000, 100)), abs=0.1)


def test_a_source_without_sound_makes_a_video_without(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    with SourceSound(path) as sound:
        assert not sound.is_there and sound.notes == [] and sound.aspect == 1
    drawn_again(path, tmp_path / "drawn.mp4")
    assert streams_of(tmp_path / "drawn.mp4") == [("video", "h264")]


@pytest.mark.parametrize(("turned", "shown"), [(None, Fraction(4, 3)), (90, Fraction(3, 4))])
@pytest.mark.parametrize("codec", ["h264", "vp9", "av1"])
def test_pixels_keep_their_shape_also_when_the_picture_is_turned(tmp_path, turned, shown, codec):
    path = write_sounding(tmp_path / "v.mp4", EVEN_MS[:5], sound=None, aspect=Fraction(4, 3), turned=turned)
    drawn_again(path, tmp_path / "drawn.mp4", codec=codec)
    with SourceSound(tmp_path / "drawn.mp4") as drawn:
        assert drawn.aspect == shown


def test_sound_that_breaks_off_is_told_and_the_picture_goes_on(tmp_path):
    path = write_sounding(tmp_path / "v.mp4", EVEN_MS)
    with SourceSound(path) as sound:
        with av.open(str(tmp_path / "o.mp4"), "w") as container:
            sound.begin(container, 0.0)

            def torn(stream):
                raise av.InvalidDataError(1, "Invalid data found when processing input")

            sound._input = type("Torn", (), {"demux": staticmethod(torn), "close": sound._input.close})()
            assert list(sound.until(10)) == []
        assert "could not be taken along" in sound.notes[0]

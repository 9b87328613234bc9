# SPDX-License-Identifier: Apache-2.0
"""What is written is shown when the source showed it, in browsers, too; a full disk leaves a video that plays."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from centermask_runtime.sinks.video_writer import VideoWriter
from tests.support.browser import played
from tests.support.small_pictures import SIZE_HW, names_in, picture, write_video
from tests.support.sounding_videos import drawn_again, picture_times_ms, write_sounding

UNEVEN_MS = [0, 40, 45, 300, 301, 900, 1733, 1766, 2000, 2999]
CODECS = ["h264", "vp9", "av1"]


def pictures(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("codec", CODECS)
def test_uneven_times_are_kept_to_a_tenth_of_a_millisecond(tmp_path, codec):
    path = write_sounding(tmp_path / "v.mkv", UNEVEN_MS)
    drawn_again(path, tmp_path / "drawn.mp4", codec=codec)
    assert picture_times_ms(tmp_path / "drawn.mp4") == pytest.approx(UNEVEN_MS, abs=0.1)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(120), Fraction(1, 3)])
def test_rates_that_are_no_whole_milliseconds_are_kept_for_long(tmp_path, rate):
    path = write_video(tmp_path / "v.mp4", count=60, fps=rate)
    assert picture_times_ms(path) == pytest.approx([float(1000 * n / rate) for n in range(60)], abs=0.1)


@pytest.mark.parametrize(
    "source",
    [
        {"codec": "libx264", "pixels": "yuv420p10le"},
        {"codec": "libx265", "pixels": "yuv420p10le"},
        {"codec": "libx264", "pixels": "yuv444p"},
        {"codec": "libx264", "size_hw": (47, 63), "pixels": "yuv444p"},
        {"codec": "libvpx-vp9"},
        {"codec": "mpeg4", "turned": 90},
    ],
    ids=lambda source: " ".join(map(str, source.values())),
)
def test_sources_of_every_kind_come_out_frame_for_frame(tmp_path, source):
    """10 bits, full colour, odd sides, a turned phone: as many frames, the same times, the same picture.

    Within 12 grey levels inside the flat area: two lossy encodings.
    """
    path = write_sounding(tmp_path / "v.mp4", range(0, 1000, 40), sound=None, **source)
    drawn_again(path, tmp_path / "drawn.mp4")
    found = pictures(tmp_path / "drawn.mp4")
    assert picture_times_ms(tmp_path / "drawn.mp4") == pytest.approx(list(range(0, 1000, 40)), abs=1)
    height, width = source.get("size_hw", SIZE_HW)
    even = (height + height % 2, width + width % 2)
    assert found[0].shape[:2] == (even[::-1] if source.get("turned") else even)
    for index in (0, 12, 24):
        expected = picture(index)[-1, -1].astype(int)
        assert np.abs(found[index][24:32, 24:32].astype(int) - expected).max() <= 12


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_chromium_plays_it_to_the_end_with_its_sound(tmp_path, codec):
    path = write_sounding(tmp_path / "v.mkv", UNEVEN_MS, sound="pcm_s16le", aspect=Fraction(2))
    drawn_again(path, tmp_path / "drawn.mp4", codec=codec)
    found = played(tmp_path / "drawn.mp4")
    assert (found["width"], found["height"]) == (SIZE_HW[1] * 2, SIZE_HW[0])
    assert found["frames"] == len(UNEVEN_MS) and found["sound_bytes"] > 1000
    assert found["duration"] == pytest.approx(3.1, abs=0.15)
    assert np.abs(np.array(found["last_rgb"][::-1]) - picture(9)[-1, -1]).max() <= 20


FULL = """
import resource, sys
from fractions import Fraction
import numpy as np
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.sinks.sink import FileSink
from centermask_runtime.sinks.video_writer import VideoWriter
from centermask_runtime.sinks.video import VideoSink
from centermask_runtime.sources.source import Frame, SourceInfo
from tests.support.sounding_videos import *
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)  # the system refuses to write any further
noise = np.random.default_rng(0)
nothing = Instances((240, 320), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32),
                    BoxMasks.empty((240, 320)), ("cell",), (1,))
given = 0
try:
    with VideoSink(sys.argv[1], SourceInfo("v", size_hw=(240, 320), fps=Fraction(10), is_video=True)) as sink:
        for index in range(400):
            image = noise.integers(0, 255, (240, 320, 3), np.uint8)
            sink.add(Frame(image, str(index), index, index / 10), nothing, image)
            given += 1
except CenterMaskError as error:
    print(type(error).__name__, given, error)
"""


@pytest.mark.process
@pytest.mark.slow
def test_a_full_disk_in_mid_video_leaves_what_was_written_as_a_video_that_plays(tmp_path):
    path = tmp_path / "v.mp4"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), "8000000"], capture_output=True, text=True, check=True
    )
    kind, given, *sentence = done.stdout.split()
    assert kind == "DiskFullError" and "what was whole until then is kept; free some space" in " ".join(sentence)
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    assert names_in(tmp_path) == ["v.mp4"]
    count = len(pictures(path))
    assert int(given) * 0.6 < count <= int(given) < 400
    assert picture_times_ms(path) == pytest.approx([100 * n for n in range(count)], abs=0.1)
    found = played(path)
    assert found["frames"] == count and found["duration"] == pytest.approx(count / 10, abs=0.3)


@pytest.mark.process
def test_a_disk_that_is_full_at_once_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path / "v.mp4"), "1000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("DiskFullError") and names_in(tmp_path) == []


SHORT = """
import resource, sys
from fractions import Fraction
import numpy as np
from centermask_runtime.errors import DiskFullError
from centermask_runtime.sinks.video_writer import VideoWriter
noise = np.random.default_rng(0)
writer = VideoWriter(sys.argv[1], (240, 320), Fraction(10))
for index in range(5):
    writer.write(noise.integers(0, 255, (240, 320, 3), np.uint8))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    writer.close()
except DiskFullError as error:
    print(error)
"""


@pytest.mark.process
@pytest.mark.parametrize("space", [0, 2000, 50_000, 150_000])
def test_a_disk_that_is_full_only_when_a_short_video_is_finished_is_told_and_leaves_no_broken_file(tmp_path, space):
    command = [sys.executable, "-c", SHORT, str(tmp_path / "v.mp4"), str(space)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "what was whole until then is kept; free some space" in done.stdout and done.stdout.count("\n") == 1
    assert names_in(tmp_path) == []  # less than one fragment was written


def test_nothing_is_left_beside_the_video(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", SIZE_HW, Fraction(10)) as writer:
        writer.write(picture(0))
        assert "v.mp4" not in names_in(tmp_path)
    assert names_in(tmp_path) == ["v.mp4"]

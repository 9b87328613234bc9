# SPDX-License-Identifier: Apache-2.0
"""Anything that holds pictures is opened by what it is, not by what it is called."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.options import SourceOptions
from tests.support.small_pictures import picture, write_video


@pytest.fixture
def folder(tmp_path):
    """a.png; video, an MP4 without a suffix; odd.mp4, a PNG; odd.png, an MP4."""
    write_video(tmp_path / "v.mp4", count=3).rename(tmp_path / "video")
    (tmp_path / "odd.png").write_bytes((tmp_path / "video").read_bytes())
    cv2.imwrite(str(tmp_path / "a.png"), picture(7))
    (tmp_path / "odd.mp4").write_bytes((tmp_path / "a.png").read_bytes())
    return tmp_path


def names_of(source):
    with open_source(source) as opened:
        return [frame.name for frame in opened]


def test_the_content_chooses_and_not_the_name(folder):
    videos, image = ["video_000000", "video_000001", "video_000002"], ["a.png"]
    assert names_of(folder / "video") == videos and names_of(str(folder / "a.png")) == image
    assert names_of(folder / "odd.png") == [name.replace("video", "odd") for name in videos]
    assert names_of(folder / "odd.mp4") == ["odd.mp4"]
    odd = [name.replace("video", "odd") for name in videos]
    assert names_of(folder) == ["a.png", "odd.mp4", *odd, *videos]
    assert names_of(f"{folder}/*.png") == ["a.png", *odd]
    assert names_of(f"{folder}/v*") == videos  # a pattern that one file matches is that file
    assert names_of([folder / "a.png", folder / "odd.mp4"]) == ["a.png", "odd.mp4"]


def test_images_in_memory_are_sources(folder):
    assert names_of(picture(0)) == ["000000"] and names_of(Image.fromarray(picture(0))) == ["000000"]
    assert names_of([picture(0), picture(1)]) == names_of(np.stack([picture(0), picture(1)])) == ["000000", "000001"]
    assert names_of(path for path in [folder / "a.png"]) == ["a.png"]


def test_what_is_there_not_and_what_is_no_source_is_said(folder):
    with pytest.raises(DataError, match=r"There is no file or folder .*none\.mp4: check the path"):
        open_source(folder / "none.mp4")
    (folder / "notes.txt").write_text("these are notes" * 100)
    with pytest.raises(DataError, match=r"notes\.txt is text that names no source"):
        open_source(folder / "notes.txt")
    (folder / "damaged.png").write_text("no image")
    with pytest.raises(DataError, match=r"damaged\.png is not an image"):
        names_of(folder / "damaged.png")
    for other in (None, 1.5, b"bytes", {"a": 1}):
        with pytest.raises(UsageError, match="A source must be a path, an address, an image or an iterable of images"):
            open_source(other)
    with pytest.raises(DataError, match="COLOR_GRAY2BGR"):
        names_of(picture(0)[:, :, 0])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["pipe", "pipe.png", "pipe.mp4", "socket.png"])
def test_a_pipe_a_socket_and_a_device_are_refused_and_not_waited_for(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(name) if name.startswith("socket") else os.mkfifo(name)
        for given in (name, Path(name), [name], [name, name], (part for part in [name]), [picture(0), name]):
            with pytest.raises(DataError, match=r"pipe, a socket or a device|None of the 2 images"):
                names_of(given)
        with pytest.raises(DataError, match="is a pipe, a socket or a device: give a file"):
            names_of("/dev/null")
        with pytest.raises(DataError, match="holds no images and no videos"):
            names_of(tmp_path)


@pytest.mark.parametrize(
    "name", ["x" * 5000, "a/" * 3000, "a\0.png", "a\nb.png", "http://[::1/a.png", "x" * 300 + ".png"]
)
def test_a_path_that_cannot_be_is_one_short_sentence(name):
    for given in (name, [name], (part for part in [name])):
        with pytest.raises(DataError) as refused:
            names_of(given)
        said = str(refused.value)
        assert len(said) < 600 and "\n" not in said and "\0" not in said and said.endswith("."), said


@pytest.mark.parametrize("empty", [[], (), set(), np.zeros((0, 4, 5, 3), np.uint8)])
def test_an_empty_collection_is_one_sentence(empty):
    with pytest.raises(DataError, match="The list of images is empty: give at least one"):
        open_source(empty)


def test_bytes_in_every_coat_are_a_path_or_refused(folder):
    class BytesPath:
        def __fspath__(self):
            return os.fsencode(folder / "a.png")

    assert names_of(BytesPath()) == ["a.png"]
    for other in (bytearray(b"abc"), memoryview(b"abc")):
        with pytest.raises(UsageError, match="A source must be a path"):
            open_source(other)


@pytest.mark.process
def test_images_need_no_pyav_and_no_pillow(folder):
    """A fresh interpreter in which neither can be imported."""
    code = (
        "import sys; sys.modules['av'] = sys.modules['PIL'] = None\n"
        "import numpy as np\n"
        "from centermask_runtime.sinks.video import VideoSink\n"
        "from centermask_runtime.sources.opening import open_source\n"
        "sources = sys.argv[1], [np.zeros((4, 5, 3), np.uint8)]\n"
        "print(*[len(list(open_source(source))) for source in sources])"
    )
    done = subprocess.run([sys.executable, "-c", code, folder / "a.png"], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_empty_text_is_no_folder():
    with pytest.raises(DataError, match="A source is empty text: name an image"):
        open_source("")


def test_stdin_stands_alone(folder):
    with pytest.raises(UsageError, match="The source - reads paths from stdin and stands alone"):
        open_source(["-", "-"])


@pytest.mark.parametrize("words", [{"vid_stride": 10**20}, {"max_frames": 10**23}])
def test_counts_beyond_all_videos_are_refused(words):
    with pytest.raises(UsageError, match="must be a whole number from 1 to"):
        SourceOptions(**words)

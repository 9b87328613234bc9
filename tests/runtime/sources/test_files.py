# SPDX-License-Identifier: Apache-2.0
"""Image files in: folders, lists, patterns, and what cannot be read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.sources.files import FileSource
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.options import SourceOptions
from tests.support.small_pictures import picture, write_video


def test_a_folder_gives_its_images_by_name(tmp_path):
    for index, name in enumerate(["b.png", "a.JPG", "ünïcödé 猫.bmp"]):
        suffix = name[-4:].lower()
        (tmp_path / name).write_bytes(cv2.imencode(suffix, picture(index))[1].tobytes())
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "._a.png").write_text("what macOS leaves beside a.png")
    source = open_source(tmp_path)
    found = list(source)
    assert source.info.count == 3 and source.info.name == tmp_path.name and not source.info.is_video
    assert source.info.files[0] == ("a.JPG", tmp_path / "a.JPG")
    assert [frame.name for frame in found] == ["a.JPG", "b.png", "ünïcödé 猫.bmp"]
    np.testing.assert_array_equal(found[1].image, picture(0))
    assert all(frame.time_s is None and frame.source is source.info for frame in found)
    assert source.info.left_out == (tmp_path / "notes.txt",)


def test_an_unreadable_image_in_a_folder_is_reported_and_skipped(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "c.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "d.png"), picture(1))
    source = open_source(tmp_path)
    for _ in range(2):  # files can be read again
        assert [(frame.name, frame.index) for frame in source] == [("a.png", 0), ("d.png", 3)]
        assert ["b.png is not an image" in source.skipped[0], "c.png" in source.skipped[1]] == [True, True]
    with pytest.raises(DataError, match=r"b\.png is not an image"):
        list(FileSource.of_list([tmp_path / "b.png"]))
    with pytest.raises(DataError, match=r"None of the 2 images in .* could be read; check them"):
        list(FileSource.of_list([tmp_path / "b.png", tmp_path / "c.png"]))


def test_no_images_are_a_data_error(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "more.txt").write_text("no image")
    with pytest.raises(DataError, match="holds no images and no videos: check the path"):
        open_source(tmp_path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match=r"holds no images and no videos: give '.*/\*\*' for what its folders hold"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="list of images is empty"):
        FileSource.of_list([])
    with pytest.raises(DataError, match=r"No file matches .*: check the pattern"):
        open_source(f"{tmp_path}/**/*.png")
    with pytest.raises(DataError, match="No image and no video is among the files that match"):
        open_source(f"{tmp_path}/*")


def folders(root):
    """b/1.png, a/1.png, a/deep/2.jpg and a file without a suffix that is a PNG; notes and a video beside them."""
    for index, name in enumerate(["b/1.png", "a/1.png", "a/deep/2.jpg", "a/deep/scan"]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix or ".png", picture(index))[1].tobytes())
    (root / "a" / "notes.txt").write_text("no image")
    write_video(root / "a" / "clip.mp4", count=1)
    return root


def test_a_pattern_names_files_below_folders_and_frames_are_called_by_their_way(tmp_path):
    for pattern in ("**/*", "**"):
        source = open_source(f"{folders(tmp_path)}/{pattern}")
        found = list(source)
        assert [frame.name for frame in found] == [
            "a/1.png", "a/clip_000000", "a/deep/2.jpg", "a/deep/scan", "b/1.png",
        ]  # fmt: skip
        assert [frame.source.is_video for frame in found] == [False, True, False, False, False]
        assert source.info.name == tmp_path.name and source.info.left_out == (tmp_path / "a" / "notes.txt",)
    assert [frame.name for frame in open_source(f"{tmp_path}/a/d*/*")] == ["deep/2.jpg", "deep/scan"]


def test_a_list_is_read_in_its_order_and_as_often_as_it_says(tmp_path):
    folders(tmp_path)
    source = FileSource.of_list([tmp_path / "b" / "1.png", str(tmp_path / "a" / "1.png"), tmp_path / "b" / "1.png"])
    found = list(source)
    assert [frame.name for frame in found] == ["b/1.png", "a/1.png", "b/1_2.png"] and source.info.count == 3
    np.testing.assert_array_equal(found[1].image, picture(1))


def stack(path, values=(10, 200, 250)):
    cv2.imwritemulti(str(path), [np.full((10, 12), value, np.uint8) for value in values])
    return path


def test_each_page_of_a_stack_is_a_frame(tmp_path):
    source = open_source(stack(tmp_path / "z.tif"))
    found = list(source)
    assert [(frame.name, int(frame.image[0, 0, 0])) for frame in found] == [
        ("z_0000.tif", 10), ("z_0001.tif", 200), ("z_0002.tif", 250),
    ]  # fmt: skip
    assert source.info.count == 3 and {frame.file for frame in found} == {tmp_path / "z.tif"}
    cv2.imwrite(str(tmp_path / "y.tif"), picture(0))
    assert [frame.name for frame in open_source(tmp_path)] == ["y.tif", *(frame.name for frame in found)]


def test_at_most_so_many_images_are_taken(tmp_path):
    stack(tmp_path / "a.tif")
    source = open_source(tmp_path, SourceOptions(max_frames=2))
    assert [frame.name for frame in source] == ["a_0000.tif", "a_0001.tif"] and source.info.count == 2

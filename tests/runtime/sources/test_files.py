# SPDX-License-Identifier: Apache-2.0
"""Image files in: folders, lists, patterns, and what cannot be read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.sources.files import FileSource, is_pattern, matching_images
from tests.support.small_pictures import picture, write_video


def test_a_folder_gives_its_images_by_name(tmp_path):
    for index, name in enumerate(["b.png", "a.JPG", "ünïcödé 猫.bmp"]):
        suffix = name[-4:].lower()
        (tmp_path / name).write_bytes(cv2.imencode(suffix, picture(index))[1].tobytes())
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "._a.png").write_text("what macOS leaves beside a.png")
    source = FileSource.of_folder(tmp_path)
    found = list(source)
    assert source.info.count == 3 and source.info.name == tmp_path.name and not source.info.is_video
    assert source.info.files[0] == ("a.JPG", tmp_path / "a.JPG")
    assert [frame.name for frame in found] == ["a.JPG", "b.png", "ünïcödé 猫.bmp"]
    np.testing.assert_array_equal(found[1].image, picture(0))
    assert all(frame.time_s is None for frame in found)


def test_an_unreadable_image_in_a_folder_is_reported_and_skipped(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "c.png").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "d.png"), picture(1))
    source = FileSource.of_folder(tmp_path)
    for _ in range(2):  # files can be read again
        assert [(frame.name, frame.index) for frame in source] == [("a.png", 0), ("d.png", 3)]
        assert ["b.png is not an image" in source.skipped[0], "c.png" in source.skipped[1]] == [True, True]
    with pytest.raises(DataError, match=r"b\.png is not an image"):
        list(FileSource.of_list([tmp_path / "b.png"]))
    with pytest.raises(DataError, match=r"None of the 2 images in .* could be read; check them"):
        list(FileSource.of_list([tmp_path / "b.png", tmp_path / "c.png"]))


def test_no_images_are_a_data_error(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match="holds no images"):
        FileSource.of_folder(tmp_path)
    with pytest.raises(DataError, match="list of images is empty"):
        FileSource.of_list([])
    with pytest.raises(DataError, match=r"No file matches .*: check the pattern"):
        matching_images(f"{tmp_path}/**/*.png")
    with pytest.raises(DataError, match="No image is among the files that match"):
        matching_images(f"{tmp_path}/*")


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
    source = matching_images(f"{folders(tmp_path)}/**/*")
    assert [frame.name for frame in source] == ["a/1.png", "a/deep/2.jpg", "a/deep/scan", "b/1.png"]
    assert source.info.name == tmp_path.name
    assert [frame.name for frame in matching_images(f"{tmp_path}/a/d*/?.jpg")] == ["deep/2.jpg"]


def test_a_list_is_read_in_its_order_and_as_often_as_it_says(tmp_path):
    folders(tmp_path)
    source = FileSource.of_list([tmp_path / "b" / "1.png", str(tmp_path / "a" / "1.png"), tmp_path / "b" / "1.png"])
    found = list(source)
    assert [frame.name for frame in found] == ["b/1.png", "a/1.png", "b/1_2.png"] and source.info.count == 3
    np.testing.assert_array_equal(found[1].image, picture(1))


def test_a_file_whose_name_has_a_bracket_is_no_pattern(tmp_path):
    (tmp_path / "a[1].png").write_bytes(b"")
    assert not is_pattern(str(tmp_path / "a[1].png"))
    assert is_pattern(str(tmp_path / "a[1-9].png")) and is_pattern("*.png") and not is_pattern("a.png")

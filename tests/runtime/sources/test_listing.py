# SPDX-License-Identifier: Apache-2.0
"""Lists of sources: text files, stdin, several at once; what is read one after the other says whose it is."""

from __future__ import annotations

import io
import sys

import cv2
import numpy as np
import pytest

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.sources.listing import entries_of, entries_of_stdin, is_list, is_pattern
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.options import SourceOptions
from tests.support.small_pictures import picture, write_video


@pytest.fixture
def folder(tmp_path):
    """a.png and b/a.png, and the videos clip.mp4 and b/clip.mp4 of three frames."""
    (tmp_path / "b").mkdir()
    for index, name in enumerate(["a.png", "b/a.png"]):
        cv2.imwrite(str(tmp_path / name), picture(index))
    for name in ("clip.mp4", "b/clip.mp4"):
        write_video(tmp_path / name, count=3)
    return tmp_path


def read(source, **options):
    with open_source(source, SourceOptions(**options)) as opened:
        return list(opened), opened


def names(frames):
    return [frame.name for frame in frames]


def test_a_text_file_is_a_list_and_its_paths_count_from_its_folder(folder, monkeypatch):
    monkeypatch.chdir(folder / "b")
    (folder / "list.txt").write_text(f"\ufeff# photos\n\n  b/a.png  \n{folder}/a.png\r\nb/*.mp4\n", encoding="utf-8")
    frames, opened = read(folder / "list.txt")
    assert names(frames) == ["b/a.png", "a.png", "b/clip_000000", "b/clip_000001", "b/clip_000002"]
    assert [frame.source.name for frame in frames[2:]] == ["b/clip"] * 3 and opened.info.is_mixed
    (folder / "of_images.txt").write_text("clip.png\na.png\n")  # the working directory has a.png, too
    frames, opened = read(folder / "of_images.txt")
    assert names(frames) == ["a.png"] and "clip.png cannot be read" in opened.skipped[0]
    np.testing.assert_array_equal(frames[0].image, picture(0))


def test_what_is_text_says_the_content_and_not_the_name(folder):
    (folder / "list").write_text("a.png")
    (folder / "playlist").write_text("#EXTM3U\n#EXT-X-VERSION:3\n")
    (folder / "raw").write_bytes(bytes(range(256)))
    (folder / "cut").write_bytes(("ü" * 3000).encode())
    for name, expected in (("list", True), ("playlist", False), ("raw", False), ("a.png", False), ("cut", True)):
        assert is_list(folder / name) is expected, name
    assert names(read(folder / "list")[0]) == ["a.png"]


def test_a_list_that_is_empty_or_names_itself_is_one_sentence(folder):
    (folder / "empty.txt").write_text("# nothing yet\n")
    with pytest.raises(DataError, match=r"empty\.txt is empty: write a path or an address on each line"):
        entries_of(folder / "empty.txt")
    (folder / "round.txt").write_text("round.txt\n")
    with pytest.raises(DataError, match=r"round\.txt is named by lists that name each other"):
        open_source(folder / "round.txt")


def test_several_sources_are_read_one_after_the_other_and_no_name_comes_twice(folder):
    frames, opened = read([folder / "b" / "clip.mp4", str(folder / "clip.mp4"), folder / "b", folder / "clip.mp4"])
    assert names(frames[::3]) == ["b/clip_000000", "clip_000000", "b/a.png", "b/clip_2_000002", "clip_2_000002"]
    assert len(set(names(frames))) == len(frames) == 13
    assert {path for _, path in opened.info.files} == {folder / name for name in ("clip.mp4", "b/clip.mp4", "b/a.png")}


def test_one_source_that_cannot_be_read_does_not_end_the_others(folder):
    (folder / "notes.mp4").write_text("no video")
    frames, opened = read([folder / "notes.mp4", folder / "none.png", folder / "a.png", folder / "clip.mp4"])
    assert names(frames) == ["a.png", "clip_000000", "clip_000001", "clip_000002"]
    assert ["notes.mp4" in opened.skipped[0], "none.png" in opened.skipped[1], len(opened.skipped)] == [True, True, 2]
    with pytest.raises(DataError, match=r"None of the 2 sources in .* could be read; the first: .*notes\.mp4"):
        read([folder / "notes.mp4", folder / "notes.mp4"])


def test_a_folder_gives_its_images_and_videos_and_lists_the_rest(folder):
    (folder / "notes.csv").write_text("1,2")
    frames, opened = read(folder)
    assert names(frames) == ["a.png", "clip_000000", "clip_000001", "clip_000002"]
    assert opened.info.left_out == (folder / "notes.csv",)


def test_the_limit_of_frames_is_of_each_source(folder):
    frames, _ = read([folder / "clip.mp4", folder / "b" / "clip.mp4", folder / "a.png"], max_frames=2)
    assert names(frames) == ["clip_000000", "clip_000001", "b/clip_000000", "b/clip_000001", "a.png"]


def test_stdin_names_sources_as_they_come(folder, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{folder}/a.png\n\n{folder}/none.png\n{folder}/clip.mp4\n"))
    frames, opened = read("-")
    assert names(frames) == ["a.png", "clip_000000", "clip_000001", "clip_000002"]
    assert [frame.source.is_video for frame in frames] == [False, True, True, True]
    assert opened.skipped == [f"There is no file or folder {folder}/none.png: check the path."]


def test_a_keyboard_is_not_waited_for(monkeypatch):
    class Keyboard(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Keyboard())
    with pytest.raises(UsageError, match="reads paths from stdin, where nothing is"):
        read("-")


def test_a_file_whose_name_has_a_bracket_is_no_pattern(tmp_path):
    (tmp_path / "a[1].png").write_bytes(b"")
    assert not is_pattern(str(tmp_path / "a[1].png"))
    assert is_pattern(str(tmp_path / "a[1-9].png")) and is_pattern("*.png") and not is_pattern("a.png")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "stdin names nothing"),
        (b"\n# no path\r\n", "stdin names nothing"),
        (b"/tmp/\xff\xfe.png\n", "stdin is no text in utf-8"),
    ],
)
def test_stdin_that_names_nothing_is_one_sentence(content, sentence):
    with pytest.raises(DataError, match=f"{sentence}: write a path or an address on each line"):
        list(entries_of_stdin(io.TextIOWrapper(io.BytesIO(content), "utf-8")))


def test_a_byte_order_mark_on_stdin_belongs_to_no_path():
    stream = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa.png\r\n\r\nb.png"), "utf-8")
    assert list(entries_of_stdin(stream)) == ["a.png", "b.png"]

# SPDX-License-Identifier: Apache-2.0
"""Which files a folder, a pattern or a list stands for."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from centermask_runtime.errors import DataError, UsageError, shown
from centermask_runtime.image_kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, head_of, kind_of, kind_of_file
from centermask_runtime.sources.addresses import is_address

BYTE_ORDER_MARK = "\ufeff"  # that Windows begins a text with
PATTERN_SIGNS = "*?["
STREAMS_SUFFIX = ".streams"  # a list whose entries are read at once
HEAD = 4096  # bytes that tell a list from other files
_PLAYLISTS = ("#EXTM3U", "v=0", "ffconcat")  # text that FFmpeg reads


@dataclass(frozen=True)
class Listed:
    """Images and videos, in their order, below a folder; and what is neither."""

    files: tuple[Path, ...]
    root: Path
    left_out: tuple[Path, ...] = ()


def of_folder(folder: Path) -> Listed:
    """What is directly in the folder, sorted by name, without hidden files. Raises DataError where that is none."""
    there = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    listed = _sorted_out(there, folder)
    if not listed.files:
        below = any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())
        advice = f"give '{shown(folder)}/**' for what its folders hold" if below else "check the path"
        raise DataError(f"The folder {shown(folder)} holds no images and no videos: {advice}.")
    return listed


def of_pattern(pattern: str) -> Listed:
    """What a pattern names, sorted; ** stands for any folders, and hidden files are left out. Raises DataError."""
    found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())
    if not found:
        raise DataError(f"No file matches {shown(pattern)}: check the pattern.")
    fixed: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if any(sign in part for sign in PATTERN_SIGNS):
            break
        fixed.append(part)
    root = Path(*fixed)
    if len(found) == 1:
        return Listed((found[0],), root)
    listed = _sorted_out(found, root)
    if not listed.files:
        raise DataError(f"No image and no video is among the files that match {shown(pattern)}: check the pattern.")
    return listed


def is_pattern(source: str) -> bool:
    """Whether the text names files by * ? or [...]. A file whose very name has such a sign is no pattern."""
    return any(sign in source for sign in PATTERN_SIGNS) and not os.path.exists(source)


def is_list(path: Path) -> bool:
    """Whether the file is text that names others: neither an image nor a video by content or name, nor a playlist."""
    if path.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES):
        return False
    head = head_of(path, HEAD)
    if kind_of(head) is not None:
        return False
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # else a sign that the end of the head cuts
            return False
        text = head[: error.start].decode("utf-8-sig")
    lines = text.split()
    return bool(lines) and text.replace("\t", " ").replace("\r", "").replace("\n", " ").isprintable() and (
        not text.startswith(_PLAYLISTS)
    )  # fmt: skip


def entries_of(path: Path) -> list[str]:
    """The entries of a list: one a line, without empty lines and those that begin with #. Raises DataError.

    A path that is not absolute counts from the list's folder or, where nothing is there, from the working directory.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The list {shown(path)} cannot be read ({error}): check it.") from error
    entries = [_beside(path.parent, line) for line in _cleaned(lines)]
    if not entries:
        raise DataError(f"The list {shown(path)} is empty: write a path or an address on each line.")
    return entries


def entries_of_stdin(stream: TextIO | None = None) -> Iterator[str]:
    """The entries that come on stdin, as they come. UsageError: a keyboard; DataError: no text."""
    stream = sys.stdin if stream is None else stream
    if stream is None or stream.isatty():
        raise UsageError("The source - reads paths from stdin, where nothing is: pipe them in, as by `ls *.jpg |`.")
    there = False
    try:
        for entry in _cleaned(line.removeprefix(BYTE_ORDER_MARK) for line in stream):
            there = True
            yield entry
    except UnicodeDecodeError as error:
        raise DataError(f"stdin is no text in {error.encoding}: write a path or an address on each line.") from error
    if not there:
        raise DataError("stdin names nothing: write a path or an address on each line.")


def _cleaned(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield entry


def _beside(folder: Path, entry: str) -> str:
    if is_address(entry) or os.path.isabs(entry):
        return entry
    beside = str(folder / entry)
    return beside if is_pattern(beside) or os.path.exists(beside) or not os.path.exists(entry) else entry


def _sorted_out(found: list[Path], root: Path) -> Listed:
    kinds = {path: kind_of_file(path) for path in found}
    return Listed(
        tuple(path for path in found if kinds[path] is not None),
        root,
        tuple(path for path in found if kinds[path] is None),
    )

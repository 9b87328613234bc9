# SPDX-License-Identifier: Apache-2.0
"""What a word stands for: images, videos, addresses and streams, named by itself, by a folder or by a list."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from centermask_runtime.errors import DataError, UsageError, first_line, shown
from centermask_runtime.image_kinds import kind_of_file
from centermask_runtime.sources.addresses import LIVE_SCHEMES, address_name, file_of, is_address, public, scheme_of
from centermask_runtime.sources.files import common_root
from centermask_runtime.sources.listing import (
    STREAMS_SUFFIX,
    Listed,
    entries_of,
    is_list,
    is_pattern,
    of_folder,
    of_pattern,
)

Word = str | Path | int
MOST_DEEP = 3  # lists that name lists


@dataclass(frozen=True)
class Part:
    """An image or a video: a file, or an address whose kind is known when it is opened."""

    kind: Literal["image", "video"]
    path: Path | None = None
    address: str | None = None


@dataclass(frozen=True)
class Parts:
    """What a word stands for, in order."""

    parts: tuple[Part, ...]
    name: str  # of all together
    root: Path  # the folder that the files are below, where there is one
    left_out: tuple[Path, ...] = ()


def parts_of(word: Word, *, alone: bool, depth: int = 0) -> Parts:
    """The images and videos that a word stands for. alone: whether it is the only one.

    Raises DataError where nothing is there.
    """
    if word == "":
        raise DataError("A source is empty text: name an image, a folder, a pattern, a video or an address.")
    if isinstance(word, str) and is_address(word):
        if scheme_of(word) == "file":
            return parts_of(file_of(word), alone=alone, depth=depth)
        return Parts((Part("video", address=word),), Path(address_name(word)).stem, Path())
    if is_pattern(str(word)):
        return _listed(of_pattern(str(word)))
    path = Path(word) if not isinstance(word, int) else Path(str(word))
    mode = _mode_of(path)
    if mode is None or not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        if alone:
            _refuse(path, mode)
        return Parts((Part("image", path),), path.stem, path.parent)  # is told when it is its turn
    if stat.S_ISDIR(mode):
        return _listed(of_folder(path))
    kind = kind_of_file(path)
    if kind is None and is_list(path):
        return _of_list(path, depth)
    return Parts((Part(kind or "video", path),), path.stem, path.parent)


def streams_of(words: list[Word], depth: int = 0) -> list[str | int] | None:
    """The streams that words stand for, all of which are read at once; None where they are none.

    A stream is a camera's number, an address that has no end, and each entry of a file *.streams. Raises UsageError for
    a mixture.
    """
    found: list[str | int] = []
    others: list[Word] = []
    for word in words:
        path = Path(str(word)) if not is_address(str(word)) else None
        if path is not None and path.suffix.lower() == STREAMS_SUFFIX and os.path.isfile(path):
            found += [int(entry) if _is_camera(entry) else entry for entry in entries_of(path)]
        elif isinstance(word, int) or (isinstance(word, str) and _is_camera(word)):
            found.append(int(word))
        elif isinstance(word, str) and is_address(word) and scheme_of(word) in LIVE_SCHEMES:
            found.append(word)
        elif (
            path is not None
            and depth < MOST_DEEP
            and os.path.isfile(path)
            and kind_of_file(path) is None
            and is_list(path)
        ):
            entries: list[Word] = [*entries_of(path)]
            listed = streams_of(entries, depth + 1)
            if listed is None:
                others.append(word)
            else:
                found += listed
        else:
            others.append(word)
    if not found:
        return None
    if others:
        raise UsageError(
            f"{public(str(found[0]))} is a stream and {public(str(others[0]))} is none: streams are read at once and "
            f"files one after the other, so give them apart, or name all in a file *{STREAMS_SUFFIX}."
        )
    return found


def _is_camera(word: str) -> bool:
    return word.isascii() and word.isdecimal() and not os.path.exists(word)


def _listed(listed: Listed) -> Parts:
    kinds = ((path, kind_of_file(path) or "video") for path in listed.files)
    return Parts(
        tuple(Part(kind, path) for path, kind in kinds), listed.root.resolve().name, listed.root, listed.left_out
    )


def _of_list(path: Path, depth: int) -> Parts:
    if depth == MOST_DEEP:
        raise DataError(f"The list {shown(path)} is named by lists that name each other: name files in it.")
    entries = entries_of(path)
    alone = len(entries) == 1 and not is_address(entries[0]) and not is_pattern(entries[0])
    if alone and not os.path.exists(entries[0]):
        raise DataError(
            f"{shown(path)} is text that names no source: its line {shown(entries[0])!r} is no file that is there."
        )
    found = [parts_of(entry, alone=False, depth=depth + 1) for entry in entries]
    parts = tuple(part for one in found for part in one.parts)
    files, root = common_root([part.path for part in parts if part.path is not None] or [path])
    absolute = iter(files)
    parts = tuple(part if part.path is None else replace(part, path=next(absolute)) for part in parts)
    return Parts(parts, path.stem, root, tuple(left for one in found for left in one.left_out))


def _mode_of(path: Path) -> int | None:
    """What kind of file it is; None where nothing is there. Raises DataError for what cannot be a path."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # too long, not allowed, or with a NUL
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{shown(path)} cannot be opened ({reason}): check the path.") from error


def _refuse(path: Path, mode: int | None) -> None:
    if mode is None:
        raise DataError(f"There is no file or folder {shown(path)}: check the path.")
    raise DataError(f"{shown(path)} is a pipe, a socket or a device: give a file, a folder or an address.")

# SPDX-License-Identifier: Apache-2.0
"""The names of a source's frames: each its own, so that no output takes the place of another."""

from __future__ import annotations

import posixpath
from pathlib import Path

from centermask_runtime.images import picture_path

VIDEO_SUFFIX = ".video"  # that no image has


class FrameNames:
    """Gives each frame a name that no frame before it has: x.png, x_2.png, ..., below one folder in every case.

    Two names are one where their pictures would be one file: a.bmp and a.bmp.png.

        names = FrameNames()
        names.of("x.png"), names.of("x.png")  # "x.png", "x_2.png"
    """

    def __init__(self) -> None:
        self._times: dict[str, int] = {}  # how often a picture's name was asked for
        self._last_number = -1

    def of(self, name: str) -> str:
        """The frame's name: the wished one where it is free. Folders above the common one are left out of it."""
        parts = [part for part in posixpath.normpath(name).split("/") if part not in ("", ".", "..")]
        name = "/".join(parts) or "frame"
        number, wished = self._times.get(_key(name), 0), Path(name)
        unique = name
        while _key(unique) in self._times or self._is_numbered(unique):
            number = max(number, 1) + 1
            unique = wished.with_name(f"{wished.stem}_{number}{wished.suffix}").as_posix()
        self._times[_key(name)] = max(number, 1)
        self._times.setdefault(_key(unique), 1)
        return unique

    def of_video(self, name: str) -> str:
        """The name of a video, without a suffix: its dots are none."""
        return self.of(f"{name}{VIDEO_SUFFIX}").removesuffix(VIDEO_SUFFIX)

    def of_number(self, index: int) -> str:
        """The name of a frame that has none: 000007. Those are not kept in memory, as they may have no end."""
        name = f"{index:06d}"
        if _key(name) in self._times:
            return self.of(name)
        self._last_number = index
        return name

    def _is_numbered(self, name: str) -> bool:
        stem = _key(name).removesuffix(".png")
        return stem.isdecimal() and stem == f"{int(stem):06d}" and int(stem) <= self._last_number


def _key(name: str) -> str:
    return picture_path(Path(name)).as_posix()

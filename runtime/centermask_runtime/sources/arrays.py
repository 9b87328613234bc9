# SPDX-License-Identifier: Apache-2.0
"""Frames that are in memory already: arrays and PIL images, in any iterable, which may have no end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

from centermask_runtime.closing import Closing
from centermask_runtime.images import frame_of, read_image
from centermask_runtime.sources.source import Frame, SourceInfo


class ArraySource(Closing):
    """A Source of what an iterable gives: arrays uint8 [H, W, 3] BGR, PIL images, paths of images, or Frames.

    Frames are called 000000, 000001, ... or, where they come from a file, after it. What is none of these raises
    DataError: the program that gave it is to be mended, so nothing is skipped.
    """

    def __init__(self, images: Iterable[Any], name: str = "images") -> None:
        self._images = images
        self.info = SourceInfo(name, count=len(images) if isinstance(images, Sized) else None)
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            if isinstance(image, Frame):
                yield image
            elif isinstance(image, (str, Path)):
                yield Frame(read_image(image), Path(image).name, index, None)
            else:
                file = getattr(image, "filename", None)  # of a PIL image that was opened from a file
                name = Path(file).name if isinstance(file, str) and file else f"{index:06d}"
                yield Frame(frame_of(image), name, index, None)

    def close(self) -> None:
        """The images stay with whoever gave them."""

# SPDX-License-Identifier: Apache-2.0
"""Frames that are in memory already: arrays and PIL images, in any iterable, which may have no end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from dataclasses import replace
from os import fsdecode
from pathlib import Path
from typing import Any

from centermask_runtime.closing import Closing
from centermask_runtime.images import frame_of, is_pil_image
from centermask_runtime.sources.addresses import Encoded, address_name, file_of, image_behind, is_address
from centermask_runtime.sources.names import FrameNames
from centermask_runtime.sources.source import Frame, SourceInfo
from centermask_runtime.value_range import ValueRange


class ArraySource(Closing):
    """A Source of what an iterable gives: arrays uint8 [H, W, 3] BGR, PIL images, paths of images, Encoded, or Frames.

    Frames are called 000000, 000001, ... or, where they come from a file, after it; a name that was there already gets
    a number: x.png, x_2.png. What is none of these raises DataError: the program that gave it is to be mended, so
    nothing is skipped.
    """

    def __init__(self, images: Iterable[Any], name: str = "images", names: FrameNames | None = None) -> None:
        """names: that are taken already."""
        self._images, self._names = images, names
        known = (_file(image) for image in images) if isinstance(images, (list, tuple)) else ()
        self.info = SourceInfo(
            name,
            count=len(images) if isinstance(images, Sized) else None,
            files=tuple((file.name, file) for file in known if file is not None),
        )
        self.skipped: list[str] = []
        self.values: ValueRange | None = None

    def __iter__(self) -> Iterator[Frame]:
        names = self._names or FrameNames()
        for index, image in enumerate(self._images):
            if isinstance(image, Frame):
                name = names.of(image.name)
                yield image if name == image.name else replace(image, name=name)
                continue
            file = _file(image)
            if isinstance(image, Encoded):
                frame, address = image.decoded(self.values), image.address
            elif isinstance(image, (str, Path)):
                frame, address = image_behind(image, self.values), str(image)
            else:
                frame, address = frame_of(image, self.values), ""
            if is_address(address):
                name = names.of(address_name(address))
            else:
                name = names.of_number(index) if file is None else names.of(file.name)
            yield Frame(frame, name, index, None, file, self.info)

    def close(self) -> None:
        """The images stay with whoever gave them."""


def _file(image: Any) -> Path | None:
    """The file that an image is, or was read from: a path, a Frame's, a PIL image's."""
    if is_address(image):
        return file_of(image) if image.lower().startswith("file://") else None
    if isinstance(image, (str, Path)):
        return Path(image)
    if isinstance(image, Frame):
        return image.file
    file = getattr(image, "filename", None) if is_pil_image(image) else None
    return Path(fsdecode(file)) if file else None

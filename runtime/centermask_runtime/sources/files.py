# SPDX-License-Identifier: Apache-2.0
"""Frames of image files, one a file, or one a page of a stack."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from centermask_runtime.closing import Closing
from centermask_runtime.errors import DataError, shown
from centermask_runtime.image_kinds import STACK_SUFFIXES, pages_of
from centermask_runtime.images import read_image
from centermask_runtime.sources.names import FrameNames
from centermask_runtime.sources.source import Frame, SourceInfo
from centermask_runtime.value_range import ValueRange


class FileSource(Closing):
    """A Source of image files in the order given, each turned by its EXIF tag.

    A file that cannot be read is skipped; where none can, or where there is only one, DataError is raised.
    A frame is called after its file: by its name, and with the folders below the common one where there are several; a
    name that was there already gets a number: x.png, x_2.png. The pages of a TIFF are x_0000.tif, x_0001.tif, ...
    """

    def __init__(
        self,
        files: Sequence[Path],
        name: str,
        root: Path,
        *,
        names: FrameNames | None = None,
        left_out: tuple[Path, ...] = (),
        max_frames: int | None = None,
    ) -> None:
        """root: the folder that all files are in, or below, as their paths are written. names: taken already."""
        names = FrameNames() if names is None else names
        self._pages: list[tuple[str, Path, int]] = []
        for path in files:
            wished = path.relative_to(root)
            count = pages_of(path) if path.suffix.lower() in STACK_SUFFIXES else 1
            for page in range(count):
                own = wished if count == 1 else wished.with_name(f"{wished.stem}_{page:04d}{wished.suffix}")
                self._pages.append((names.of(own.as_posix()), path, page))
        del self._pages[max_frames or len(self._pages) :]
        self.info = SourceInfo(
            name,
            count=len(self._pages),
            files=tuple((own, path) for own, path, _ in self._pages),
            left_out=left_out,
        )
        self.skipped: list[str] = []
        self.values: ValueRange | None = None
        self.done: frozenset[str] = frozenset()  # names of frames that nobody wants any more

    @classmethod
    def of_list(cls, files: Sequence[str | Path]) -> FileSource:
        """These files, each as an image, whatever its name. Raises DataError for none."""
        if not files:
            raise DataError("The list of images is empty: give at least one file.")
        paths, root = common_root([Path(file) for file in files])
        return cls(paths, paths[0].stem if len(paths) == 1 else root.resolve().name, root)

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        for index, (name, path, page) in enumerate(self._pages):
            if name in self.done:
                continue
            try:
                image = read_image(path, values=self.values, page=page)
            except DataError as error:
                self.skipped.append(str(error))
                continue
            yield Frame(image, name, index, None, path, self.info)
        if len(self.skipped) == self.info.count:
            raise DataError(
                self.skipped[0]
                if self.info.count == 1
                else f"None of the {self.info.count} images in {shown(self.info.name)} could be read; check them."
            )

    def close(self) -> None:
        """Nothing is held open between two frames."""


def common_root(paths: list[Path]) -> tuple[list[Path], Path]:
    """The paths, absolute where they are in several folders, and the folder that all are in, or below."""
    root = paths[0].parent
    if any(path.parent != root for path in paths):
        paths = [path.absolute() for path in paths]
        root = Path(os.path.commonpath([path.parent for path in paths]))
    return paths, root

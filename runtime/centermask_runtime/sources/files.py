# SPDX-License-Identifier: Apache-2.0
"""Frames of image files: one, a folder of them, those that a pattern names, or a list."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from centermask_runtime.closing import Closing
from centermask_runtime.errors import DataError, shown
from centermask_runtime.images import image_files, is_image_file, read_image
from centermask_runtime.sources.names import FrameNames
from centermask_runtime.sources.source import Frame, SourceInfo

PATTERN_SIGNS = "*?["


class FileSource(Closing):
    """A Source of image files in the order given, each turned by its EXIF tag.

    A file that cannot be read is skipped; where none can, or where there is only one, DataError is raised.
    A frame is called after its file: by its name, and with the folders below the common one where there are several; a
    name that was there already gets a number: x.png, x_2.png.
    """

    def __init__(self, files: Sequence[Path], name: str, root: Path) -> None:
        """root: the folder that all files are in, or below, as their paths are written."""
        names = FrameNames()
        named = tuple((names.of(path.relative_to(root).as_posix()), path) for path in files)
        self.info = SourceInfo(name, count=len(named), files=named)
        self.skipped: list[str] = []

    @classmethod
    def of_folder(cls, folder: Path) -> FileSource:
        """The images directly in the folder, sorted by name. Raises DataError without any."""
        return cls(image_files(folder), folder.resolve().name, folder)

    @classmethod
    def of_list(cls, files: Sequence[str | Path]) -> FileSource:
        """These files, each as an image, whatever its name. Raises DataError for none."""
        if not files:
            raise DataError("The list of images is empty: give at least one file.")
        paths = [Path(file) for file in files]
        root = paths[0].parent
        if any(path.parent != root for path in paths):
            paths = [path.absolute() for path in paths]
            root = Path(os.path.commonpath([path.parent for path in paths]))
        return cls(paths, paths[0].stem if len(paths) == 1 else root.resolve().name, root)

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        for index, (name, path) in enumerate(self.info.files):
            try:
                image = read_image(path)
            except DataError as error:
                self.skipped.append(str(error))
                continue
            yield Frame(image, name, index, None, path)
        if len(self.skipped) == self.info.count:
            raise DataError(
                self.skipped[0]
                if self.info.count == 1
                else f"None of the {self.info.count} images in {shown(self.info.name)} could be read; check them."
            )

    def close(self) -> None:
        """Nothing is held open between two frames."""


def is_pattern(source: str) -> bool:
    """Whether the text names files by * ? or [...]. A file whose very name has such a sign is no pattern."""
    return any(sign in source for sign in PATTERN_SIGNS) and not os.path.exists(source)


def matching_files(pattern: str) -> list[Path]:
    """The files that a pattern names, sorted; ** stands for any folders, and hidden files are left out.

    Raises DataError without any.
    """
    found = sorted(path for path in map(Path, glob.glob(pattern, recursive=True)) if path.is_file())
    if not found:
        raise DataError(f"No file matches {shown(pattern)}: check the pattern.")
    return found


def matching_images(pattern: str) -> FileSource:
    """The images among the files that a pattern names. Raises DataError without any."""
    found = [path for path in matching_files(pattern) if is_image_file(path)]
    if not found:
        raise DataError(f"No image is among the files that match {shown(pattern)}: give images, or one video.")
    fixed: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if any(sign in part for sign in PATTERN_SIGNS):
            break
        fixed.append(part)
    root = Path(*fixed)
    return FileSource(found, root.resolve().name, root)

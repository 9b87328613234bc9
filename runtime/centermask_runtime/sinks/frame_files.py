# SPDX-License-Identifier: Apache-2.0
"""Sinks that write files for each frame, called after it: pictures, labels, masks, cut-outs, polygons.

Each file is whole by itself as soon as it is there, and stays whatever becomes of the run.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import UsageError
from centermask_runtime.image_kinds import IMAGE_SUFFIXES
from centermask_runtime.images import picture_path
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.sink import FileSink, refuse_to_overwrite, refuse_to_overwrite_frame
from centermask_runtime.sources.source import Frame, SourceInfo


class FrameFileSink(FileSink):
    """A Sink with a file per frame in `folder`, of the frame's name with another suffix: a.jpg becomes a.txt.

    Where several images differ in nothing but their suffix, it is kept: a.jpg.txt. Without a `suffix` the file is a
    picture, and is called by picture_path.
    """

    suffix = ""

    def __init__(self, folder: str | Path, source: SourceInfo | None = None) -> None:
        """source: what the frames come from. Raises UsageError where a file would overwrite one of its files."""
        self.folder = Path(folder)
        self.style: DrawStyle | None = None
        files = () if source is None or source.is_video else source.files
        stems = Counter(_stem(name) for name, _ in files)
        self._shared = {name for name, _ in files if stems[_stem(name)] > 1}  # a.jpg and a.png
        if source is not None and not source.is_video:
            refuse_to_overwrite(source, (self._named(name) for name, _ in source.files))

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """Writes one frame's file. Raises CenterMaskError, as when the disk is full.

        Raises UsageError where it would overwrite the file of the frame, or leave the folder.
        """
        target = self._named(frame.name)
        if not Path(os.path.abspath(target)).is_relative_to(os.path.abspath(self.folder)):
            raise UsageError(f"The frame's name {frame.name!r} leads out of the folder {self.folder}: choose another.")
        refuse_to_overwrite_frame(frame, target)
        self.write(target, frame, instances, picture)

    @abstractmethod
    def write(self, target: Path, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None) -> None:
        """One frame's file, or several beside it."""

    def close(self) -> None:
        """Nothing is left to do: each file was finished when it came."""

    def discard(self) -> None:
        """Nothing is taken back."""

    def _named(self, name: str) -> Path:
        if not self.suffix:
            return picture_path(self.folder / name)
        return self.folder / f"{name if name in self._shared else _stem(name)}{self.suffix}"


def _stem(name: str) -> str:
    """The name without what says that it is an image: clip.v2_000007 has no such end."""
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in IMAGE_SUFFIXES else name

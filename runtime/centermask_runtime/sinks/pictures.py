# SPDX-License-Identifier: Apache-2.0
"""Drawn frames as one picture file per frame, called after the frame."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import UsageError
from centermask_runtime.images import picture_path, write_picture
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw
from centermask_runtime.sinks.sink import refuse_to_overwrite, refuse_to_overwrite_frame
from centermask_runtime.sources.source import Frame, SourceInfo


class PictureSink(AllOrNothing):
    """A Sink that draws each frame and writes it to `folder`. Each is whole by itself and stays."""

    def __init__(self, folder: str | Path, source: SourceInfo | None = None, style: DrawStyle = DEFAULT_STYLE) -> None:
        """source: what the frames come from. Raises UsageError where a picture would overwrite one of its files."""
        self.folder = Path(folder)
        self.style: DrawStyle | None = style
        if source is not None and not source.is_video:
            refuse_to_overwrite(source, (picture_path(self.folder / name) for name, _ in source.files))

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """Writes one picture. Raises CenterMaskError, as when the disk is full.

        Raises UsageError where the picture would overwrite the file of the frame, or leave the folder.
        """
        target = picture_path(self.folder / frame.name)
        if not Path(os.path.abspath(target)).is_relative_to(os.path.abspath(self.folder)):
            raise UsageError(f"The frame's name {frame.name!r} leads out of the folder {self.folder}: choose another.")
        refuse_to_overwrite_frame(frame, target)
        if picture is None:
            picture = draw(frame.image, instances, self.style or DEFAULT_STYLE)
        write_picture(target, picture)

    def close(self) -> None:
        """Nothing is left to do: each picture was finished when it came."""

    def discard(self) -> None:
        """Nothing is taken back."""

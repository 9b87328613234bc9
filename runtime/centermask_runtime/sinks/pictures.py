# SPDX-License-Identifier: Apache-2.0
"""Drawn frames as one picture file per frame, called after the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.images import picture_path, write_picture
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw
from centermask_runtime.sinks.sink import refuse_to_overwrite
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
        """Writes one picture. Raises CenterMaskError, as when the disk is full."""
        if picture is None:
            picture = draw(frame.image, instances, self.style or DEFAULT_STYLE)
        write_picture(self.folder / frame.name, picture)

    def close(self) -> None:
        """Nothing is left to do: each picture was finished when it came."""

    def discard(self) -> None:
        """Nothing is taken back."""

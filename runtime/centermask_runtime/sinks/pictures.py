# SPDX-License-Identifier: Apache-2.0
"""Drawn frames as one picture file per frame, called after the frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.images import write_picture
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw
from centermask_runtime.sinks.frame_files import FrameFileSink
from centermask_runtime.sources.source import Frame, SourceInfo


class PictureSink(FrameFileSink):
    """A Sink that draws each frame and writes it to `folder`."""

    def __init__(self, folder: str | Path, source: SourceInfo | None = None, style: DrawStyle = DEFAULT_STYLE) -> None:
        """source: what the frames come from. Raises UsageError where a picture would overwrite one of its files."""
        super().__init__(folder, source)
        self.style = style

    def write(self, target: Path, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None) -> None:
        if picture is None:
            picture = draw(frame.image, instances, self.style or DEFAULT_STYLE)
        write_picture(target, picture)

# SPDX-License-Identifier: Apache-2.0
"""Drawn frames as an MP4 that browsers play. PyAV is imported with the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw
from centermask_runtime.sinks.codecs import DEFAULT_CODEC
from centermask_runtime.sinks.sink import FileSink, refuse_to_overwrite, refuse_to_overwrite_frame
from centermask_runtime.sinks.source_sound import SourceSound
from centermask_runtime.sinks.video_writer import VideoWriter
from centermask_runtime.sources.source import Frame, SourceInfo
from centermask_runtime.sources.video import USUAL_FPS


class VideoSink(FileSink):
    """A Sink that draws each frame and writes a video of them, each shown when it was in its source.

    A source that is a file gives its sound and the shape of its pixels, too. `notes` has sentences about sound that
    could not be taken along.
    """

    def __init__(
        self,
        path: str | Path,
        source: SourceInfo,
        style: DrawStyle = DEFAULT_STYLE,
        *,
        codec: str = DEFAULT_CODEC,
    ) -> None:
        """source: what the frames come from; without a size there, the video is begun at the first frame.

        codec: "h264", "vp9" or "av1". Raises UsageError, also where the video would overwrite its source, and
        CenterMaskError.
        """
        self.path = Path(path)
        self.style: DrawStyle | None = style
        self._codec = codec
        refuse_to_overwrite(source, [self.path])
        self._fps = source.fps or USUAL_FPS
        self._sound = SourceSound(source.files[0][1]) if source.is_video and len(source.files) == 1 else None
        self._writer = None if source.size_hw is None else self._begun(source.size_hw)

    @property
    def notes(self) -> list[str]:
        """Sentences about what the video lacks."""
        return [] if self._sound is None else self._sound.notes

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame. Raises DataError where it has another size than those before, CenterMaskError when it fails.

        Raises UsageError where the video is the frame's own.
        """
        refuse_to_overwrite_frame(frame, self.path)
        if picture is None:
            picture = draw(frame.image, instances, self.style or DEFAULT_STYLE)
        if self._writer is None:
            self._writer = self._begun((picture.shape[0], picture.shape[1]))
        self._writer.write(picture, frame.time_s)

    def close(self) -> None:
        """Finishes the file and gives it its name. A video without frames is no file."""
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            if self._sound is not None:
                self._sound.close()

    def discard(self) -> None:
        """Gives up: nothing stays on disk."""
        if self._writer is not None:
            self._writer.discard()
        if self._sound is not None:
            self._sound.close()

    def _begun(self, size_hw: tuple[int, int]) -> VideoWriter:
        if self._sound is None:
            return VideoWriter(self.path, size_hw, self._fps, codec=self._codec)
        aspect = self._sound.aspect
        return VideoWriter(self.path, size_hw, self._fps, codec=self._codec, aspect=aspect, sound=self._sound)

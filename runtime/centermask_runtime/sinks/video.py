# SPDX-License-Identifier: Apache-2.0
"""Where drawn frames go: an H.264 MP4 that browsers play, complete or not there at all."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.partial_file import PartialFile

TIME_BASE = Fraction(1, 90_000)  # seconds; holds the common frame rates exactly or to 6 microseconds
BT709 = 1  # FFmpeg's number of the matrix, the primaries and the curve alike
LIMITED_RANGE = 1


class VideoWriter(AllOrNothing):
    """A context manager: leaving it finishes the file, leaving it by an error removes it.

    H.264 in yuv420p needs even sides, so an odd frame repeats its last row or column. The index is at the file's
    beginning, so that playing starts before all of it is loaded.
    """

    def __init__(self, path: str | Path, size_hw: tuple[int, int], fps: Fraction, *, crf: int = 20) -> None:
        """size_hw of the frames; crf is libx264's quality, smaller is better. Raises UsageError, CenterMaskError."""
        self.size_hw = size_hw
        self._fps = fps
        self._first_s: float | None = None
        self._written = 0
        self._last_pts = -1
        self._file = PartialFile(path)
        try:
            self._container = av.open(
                str(self._file.partial),
                "w",
                format="mp4",
                options={"movflags": "+faststart", "video_track_timescale": "90000"},
            )
            self._stream = self._add_stream(fps, crf)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._file.discard()
            raise CenterMaskError(
                f"The video {path} of {size_hw[1]} x {size_hw[0]} cannot be begun: {error}."
            ) from error

    def _add_stream(self, fps: Fraction, crf: int) -> VideoStream:
        stream = self._container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast"})
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = (side + side % 2 for side in self.size_hw)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.colorspace = BT709
        stream.codec_context.color_primaries = BT709
        stream.codec_context.color_trc = BT709
        stream.codec_context.color_range = LIMITED_RANGE
        return stream

    def write(self, image: NDArray[np.uint8], time_s: float | None = None) -> None:
        """One frame uint8 [H, W, 3] BGR, shown at time_s as counted from the first frame; None: at its turn by fps."""
        assert image.shape == (*self.size_hw, 3), (image.shape, self.size_hw)
        height, width = self.size_hw
        if height % 2 or width % 2:
            image = np.asarray(cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
        if time_s is None:
            time_s = float(self._written / self._fps)
        if self._first_s is None:
            self._first_s = time_s
        pts = max(round((time_s - self._first_s) / TIME_BASE), self._last_pts + 1)
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        picture.pts, picture.time_base = pts, TIME_BASE
        self._mux(picture)
        self._written += 1
        self._last_pts = pts

    def _mux(self, picture: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except (av.FFmpegError, OSError) as error:
            raise CenterMaskError(f"The video {self._file.path} cannot be written on: {error}.") from error

    def close(self) -> None:
        """Finishes the file and gives it its name. A video without frames is no file."""
        if not self._written:
            self.discard()
            return
        try:
            self._mux(None)
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            self._file.discard()
            raise CenterMaskError(f"The video {self._file.path} cannot be finished: {error}.") from error
        except CenterMaskError:
            self.discard()
            raise
        self._file.close()

    def discard(self) -> None:
        """Gives up: nothing stays on disk."""
        with suppress(av.FFmpegError, OSError):  # what failed, or has no frame, cannot write its end; it goes anyway
            self._container.close()
        self._file.discard()

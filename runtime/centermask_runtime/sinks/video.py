# SPDX-License-Identifier: Apache-2.0
"""Drawn frames as an H.264 MP4 that browsers play, complete or not there at all. PyAV is imported with the first."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import CenterMaskError, DataError
from centermask_runtime.images import check_frame
from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw
from centermask_runtime.sinks.sink import refuse_to_overwrite, refuse_to_overwrite_frame
from centermask_runtime.sources.source import Frame, SourceInfo
from centermask_runtime.sources.video import USUAL_FPS, pyav

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer
    from av.video.stream import VideoStream

TIME_BASE = Fraction(1, 90_000)  # seconds; holds the common frame rates exactly or to 6 microseconds
BT709 = 1  # FFmpeg's number of the matrix, the primaries and the curve alike
LIMITED_RANGE = 1


class VideoSink(AllOrNothing):
    """A Sink that draws each frame and writes a video of them, each shown when it was in its source."""

    def __init__(self, path: str | Path, source: SourceInfo, style: DrawStyle = DEFAULT_STYLE) -> None:
        """source: what the frames come from; without a size there, the video is begun at the first frame.

        Raises UsageError, also where the video would overwrite its source, and CenterMaskError.
        """
        self.path = Path(path)
        self.style: DrawStyle | None = style
        refuse_to_overwrite(source, [self.path])
        self._fps = source.fps or USUAL_FPS
        self._writer = None if source.size_hw is None else VideoWriter(self.path, source.size_hw, self._fps)

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame. Raises DataError where it has another size than those before, CenterMaskError when it fails.

        Raises UsageError where the video is the frame's own.
        """
        refuse_to_overwrite_frame(frame, self.path)
        if picture is None:
            picture = draw(frame.image, instances, self.style or DEFAULT_STYLE)
        if self._writer is None:
            self._writer = VideoWriter(self.path, (picture.shape[0], picture.shape[1]), self._fps)
        self._writer.write(picture, frame.time_s)

    def close(self) -> None:
        """Finishes the file and gives it its name. A video without frames is no file."""
        if self._writer is not None:
            self._writer.close()

    def discard(self) -> None:
        """Gives up: nothing stays on disk."""
        if self._writer is not None:
            self._writer.discard()


class VideoWriter(AllOrNothing):
    """A context manager: leaving it finishes the file, leaving it by an error removes it.

    H.264 in yuv420p needs even sides, so an odd frame repeats its last row or column. The index is at the file's
    beginning, so that playing starts before all of it is loaded.
    """

    def __init__(self, path: str | Path, size_hw: tuple[int, int], fps: Fraction, *, crf: int = 20) -> None:
        """size_hw of the frames; crf is libx264's quality, smaller is better. Raises UsageError, CenterMaskError."""
        av = self._av = pyav("writing a video")
        self.size_hw = size_hw
        self._fps = fps
        self._first_s: float | None = None
        self._written = 0
        self._last_pts = -1
        self._file = PartialFile(path)
        try:
            self._container: OutputContainer = av.open(
                str(self._file.partial),
                "w",
                format="mp4",
                options={"movflags": "+faststart", "video_track_timescale": "90000"},
            )
            self._stream = self._add_stream(fps, crf)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            self._file.discard()
            raise CenterMaskError(
                f"The video {path} of {size_hw[1]} x {size_hw[0]} cannot be begun: {error}."
            ) from error

    def _add_stream(self, fps: Fraction, crf: int) -> VideoStream:
        options = {"crf": str(crf), "preset": "veryfast"}
        stream: VideoStream = self._container.add_stream("libx264", rate=fps, options=options)
        stream.height, stream.width = (side + side % 2 for side in self.size_hw)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = TIME_BASE
        stream.codec_context.colorspace = BT709
        stream.codec_context.color_primaries = BT709
        stream.codec_context.color_trc = BT709
        stream.codec_context.color_range = LIMITED_RANGE
        return stream

    def write(self, image: NDArray[np.uint8], time_s: float | None = None) -> None:
        """One frame uint8 [H, W, 3] BGR, shown at time_s as counted from the first frame; None: at its turn by fps.

        Raises DataError where it has another size than those before, CenterMaskError when it fails.
        """
        check_frame(image)
        height, width = self.size_hw
        if image.shape[:2] != self.size_hw:
            raise DataError(
                f"The video {self._file.path} has frames of {width} x {height} and one of {image.shape[1]} x "
                f"{image.shape[0]} came: give frames of one size."
            )
        if height % 2 or width % 2:
            image = np.asarray(cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
        if time_s is None:
            time_s = float(self._written / self._fps)
        if self._first_s is None:
            self._first_s = time_s
        pts = max(round((time_s - self._first_s) / TIME_BASE), self._last_pts + 1)
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE)
        picture.pts, picture.time_base = pts, TIME_BASE
        self._mux(picture)
        self._written += 1
        self._last_pts = pts

    def _mux(self, picture: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
        except (self._av.FFmpegError, OSError) as error:
            raise CenterMaskError(f"The video {self._file.path} cannot be written on: {error}.") from error

    def close(self) -> None:
        """Finishes the file and gives it its name. A video without frames is no file."""
        if not self._written:
            self.discard()
            return
        try:
            self._mux(None)
            self._container.close()
        except (self._av.FFmpegError, OSError) as error:
            self._file.discard()
            raise CenterMaskError(f"The video {self._file.path} cannot be finished: {error}.") from error
        except CenterMaskError:
            self.discard()
            raise
        self._file.close()

    def discard(self) -> None:
        """Gives up: nothing stays on disk."""
        # What failed, or has no frame, cannot write its end; it goes anyway.
        with suppress(self._av.FFmpegError, OSError):
            self._container.close()
        self._file.discard()

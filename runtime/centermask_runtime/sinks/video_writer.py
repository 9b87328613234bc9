# SPDX-License-Identifier: Apache-2.0
"""Frames to an MP4 that browsers play: each frame shown when it is due, with the sound of the source."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import CenterMaskError, DataError
from centermask_runtime.images import check_frame
from centermask_runtime.partial_file import PartialFile, writing_error
from centermask_runtime.sinks.codecs import DEFAULT_CODEC, find_codec
from centermask_runtime.sinks.mp4_file import (
    IN_FRAGMENTS,
    TRACK_TICKS,
    cut_to_whole_fragments,
    put_in_order,
    require_whole,
)
from centermask_runtime.sinks.source_sound import SourceSound
from centermask_runtime.sources.decoding import pyav

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer
    from av.video.stream import VideoStream

TIME_BASE = Fraction(1, TRACK_TICKS)  # seconds
BT709 = 1  # FFmpeg's number of the matrix, the primaries and the curve alike
LIMITED_RANGE = 1


class VideoWriter(AllOrNothing):
    """A context manager: leaving it finishes the file, leaving it by an error removes it.

    Browsers play 8 bits in yuv420p, which needs even sides, so an odd frame repeats its last row or column. After an
    error of the disk, close() keeps what is whole.
    """

    def __init__(
        self,
        path: str | Path,
        size_hw: tuple[int, int],
        fps: Fraction,
        *,
        codec: str = DEFAULT_CODEC,
        aspect: Fraction = Fraction(1),
        sound: SourceSound | None = None,
    ) -> None:
        """size_hw of the frames; codec: one of sinks/codecs.py; aspect: width by height of a pixel.

        sound: is taken along; it stays open. Raises UsageError, CenterMaskError.
        """
        self._av = pyav("writing a video")
        self._codec = find_codec(codec, self._av)
        self.size_hw, self._fps, self._aspect = size_hw, fps, aspect
        self._sound = sound if sound is not None and sound.is_there else None
        self._first_s: float | None = None
        self._lead_s = 0.0
        self._written, self._last_pts = 0, -1
        self._failed = False
        self._file = PartialFile(path)
        self._ordered = self._file.partial.with_suffix(".ordered")
        try:
            self._container: OutputContainer = self._av.open(
                str(self._file.partial), "w", format="mp4", options=IN_FRAGMENTS
            )
            self._stream = self._add_stream()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            self._file.discard()
            raise CenterMaskError(
                f"The video {path} of {size_hw[1]} x {size_hw[0]} cannot be begun: {error}."
            ) from error

    def _add_stream(self) -> VideoStream:
        options = dict(self._codec.options)
        stream = cast("VideoStream", self._container.add_stream(self._codec.encoder, rate=self._fps, options=options))
        stream.height, stream.width = (side + side % 2 for side in self.size_hw)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = TIME_BASE
        context.sample_aspect_ratio = self._aspect
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
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
            self._begin(time_s)
        assert self._first_s is not None
        pts = max(round((time_s - self._first_s + self._lead_s) / TIME_BASE), self._last_pts + 1)
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE)
        picture.pts, picture.time_base = pts, TIME_BASE
        self._mux(picture, pts * TIME_BASE)
        self._written += 1
        self._last_pts = pts

    def _begin(self, time_s: float) -> None:
        """The first frame says where in the source the video begins."""
        self._first_s = time_s
        if self._sound is not None:
            self._lead_s = 0.0 if time_s > 0 else self._sound.lead_s
            self._sound.begin(self._container, time_s)

    def _mux(self, picture: av.VideoFrame | None, sound_until_s: Fraction) -> None:
        try:
            self._container.mux(self._stream.encode(picture))
            if self._sound is not None:
                for packet in self._sound.until(float(sound_until_s)):
                    self._container.mux(packet)
        except (self._av.FFmpegError, OSError) as error:
            self._failed = True
            raise writing_error(self._file.path, error) from error

    def close(self) -> None:
        """Finishes the file and gives it its name. A video without frames is no file.

        Raises CenterMaskError when it fails; where the disk is full, the file has what is whole.
        """
        if not self._written:
            self.discard()
            return
        if self._failed:
            self._keep_whole_part()
            return
        try:
            self._mux(None, self._last_pts * TIME_BASE + 1 / self._fps)
            self._container.close()
            require_whole(self._file.partial)
            put_in_order(self._file.partial, self._ordered, round(1 / self._fps / TIME_BASE), self._aspect)
            require_whole(self._ordered)
            os.replace(self._ordered, self._file.partial)
        except CenterMaskError:
            self._keep_whole_part()
            raise
        except (self._av.FFmpegError, OSError) as error:
            self._keep_whole_part()
            raise writing_error(self._file.path, error) from error
        self._file.close()

    def _keep_whole_part(self) -> None:
        with suppress(self._av.FFmpegError, OSError):  # what cannot be written on cannot be finished
            self._container.close()
        self._ordered.unlink(missing_ok=True)
        if cut_to_whole_fragments(self._file.partial):
            self._file.close()
        else:
            self._file.discard()

    def discard(self) -> None:
        """Gives up: nothing stays on disk."""
        # What failed, or has no frame, cannot write its end; it goes anyway.
        with suppress(self._av.FFmpegError, OSError):
            self._container.close()
        self._ordered.unlink(missing_ok=True)
        self._file.discard()

# SPDX-License-Identifier: Apache-2.0
"""Frames of a video: of a file, or of an address that FFmpeg opens. PyAV is imported only when one is opened.

Frames are turned as people see them, by the video's display matrix.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from centermask_runtime.closing import Closing
from centermask_runtime.errors import DataError, UsageError, shown
from centermask_runtime.packages import need
from centermask_runtime.sources.addresses import address_name, is_address
from centermask_runtime.sources.source import Frame, SourceInfo

if TYPE_CHECKING:
    from av.container import InputContainer

MISSING_PART = 0.02  # of a video's declared frames: containers may count a few that they do not hold
USUAL_FPS = Fraction(25)  # where a container does not say


class VideoSource(Closing):
    """A Source of every frame of a video's first picture stream, with the time at which it is shown.

    The file is opened once. Its first frame is decoded at once, so that what cannot be read is refused here and the
    size is known. What ends it too early, damage or another size, is said in `skipped`; what came before is given.
    """

    def __init__(self, source: str | Path) -> None:
        """Raises DataError, and UsageError where PyAV is missing."""
        self._source = source
        self._container = _open(source)
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        name = Path(address_name(str(source)) if is_address(source) else source).stem
        path = Path(source)
        self._file = path if path.is_file() else None
        self._frames = self._decoded(name)
        self._begun = False
        self.skipped: list[str] = []
        try:
            self._first = next(self._frames, None)
            if self._first is None:
                raise DataError(f"The video {shown(source)} holds no frame that can be decoded: it may be damaged.")
        except BaseException:
            self._container.close()
            raise
        self.info = SourceInfo(
            name,
            count=self._stream.frames or None,
            size_hw=(self._first.image.shape[0], self._first.image.shape[1]),
            fps=Fraction(self._stream.average_rate or self._stream.guessed_rate or USUAL_FPS),
            is_video=True,
            files=() if self._file is None else ((name, self._file),),
        )

    def __iter__(self) -> Iterator[Frame]:
        if self._begun:
            raise UsageError(f"The frames of {shown(self._source)} were taken already: open the video again.")
        self._begun = True
        first, self._first = self._first, None
        assert first is not None
        try:
            for frame in itertools.chain([first], self._frames):
                if frame.image.shape[:2] != self.info.size_hw:
                    raise DataError(
                        f"The video {shown(self._source)} changes its size at frame {frame.index}; cut it there."
                    )
                yield frame
        except DataError as error:
            self.skipped.append(str(error))

    def close(self) -> None:
        """Closes the file. Twice is as once."""
        self._frames.close()
        self._container.close()

    def _decoded(self, name: str) -> Generator[Frame]:
        av = pyav("reading a video")
        source, index, packets = self._source, 0, 0
        start_s: float | None = None
        try:
            for packet in self._container.demux(self._stream):
                packets += packet.size > 0  # the last one only flushes the decoder
                for picture in packet.decode():
                    assert isinstance(picture, av.VideoFrame)
                    if picture.time is not None and start_s is None:
                        start_s = picture.time
                    image = np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)
                    if turns := round(picture.rotation / 90) % 4:
                        image = np.ascontiguousarray(np.rot90(image, turns))
                    time_s = picture.time - start_s if picture.time is not None and start_s is not None else None
                    yield Frame(image, f"{name}_{index:06d}", index, time_s, self._file)
                    index += 1
        except av.FFmpegError as error:
            raise DataError(
                f"The video {shown(source)} is damaged or cut off after {index} frames ({error.strerror}): "
                "what came before was used; copy or encode it again."
            ) from error
        if packets < self._stream.frames * (1 - MISSING_PART):  # not pictures: a cut without re-encoding hides some
            raise DataError(
                f"The video {shown(source)} ends after {packets} of {self._stream.frames} frames: it is damaged or cut "
                "off; what there is was used; copy or encode it again."
            )


def pyav(purpose: str) -> Any:
    """The module av. Raises UsageError where it is not installed: only videos need it."""
    need("av", "video", purpose)
    import av

    return av


def _open(source: str | Path) -> InputContainer:
    path = Path(source)
    if not is_address(source) and not path.is_file():
        reason = "it is a pipe, a socket or a device and no file" if path.exists() else "there is no such file"
        raise DataError(f"{shown(source)} cannot be opened as a video ({reason}): check the path.")
    av = pyav("reading a video")
    try:
        container: InputContainer = av.open(str(source))
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{shown(source)} cannot be opened as a video ({reason}): check the path and the format."
        ) from error
    if not container.streams.video or container.format.name == "tty":  # FFmpeg makes pictures of any .txt
        container.close()
        raise DataError(f"{shown(source)} has no pictures in it, only sound or data: give a video.")
    return container

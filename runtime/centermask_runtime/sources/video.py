# SPDX-License-Identifier: Apache-2.0
"""Frames of a video with an end: of a file, or of an address that FFmpeg opens.

Frames are turned as people see them, by the video's display matrix.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_runtime.closing import Closing
from centermask_runtime.errors import DataError, UsageError, counted
from centermask_runtime.sources.addresses import address_name, is_address, public
from centermask_runtime.sources.decoding import Tally, open_container, pictures, pyav, reason_of, time_of, to_bgr
from centermask_runtime.sources.options import SourceOptions
from centermask_runtime.sources.source import Frame, SourceInfo
from centermask_runtime.value_range import ValueRange

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

MISSING_PART = 0.02  # of a video's declared frames: containers may count a few that they do not hold
USUAL_FPS = Fraction(25)  # where a container does not say
MOST_EARLY_S = 20.0  # how far before the wanted start a keyframe is looked for where the index leads behind it
SAME_S = 5e-4  # times that differ by less are one


class VideoSource(Closing):
    """A Source of a video's first picture stream: its frames, or those that are asked for, and when each is shown.

    The file is opened once. Its first frame is decoded at once, so that what cannot be read is refused here and the
    size is known. Damaged packets are left out and told in `skipped`, and so is what ends it too early.
    """

    def __init__(
        self,
        source: str | Path,
        options: SourceOptions | None = None,
        *,
        name: str | None = None,
        container: InputContainer | None = None,
    ) -> None:
        """name: of its frames, else the file's. container: the opened source; it is closed with this.

        Raises DataError, and UsageError where PyAV is missing.
        """
        self._source, self._options = source, options or SourceOptions()
        self._container = open_container(source) if container is None else container
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._name = name or Path(address_name(str(source)) if is_address(source) else source).stem
        path = Path(source)
        self._file = path if path.is_file() else None
        self._fps = Fraction(self._stream.average_rate or self._stream.guessed_rate or USUAL_FPS)
        self._tally, self._decoded = Tally(), 0
        self._frames = self._taken()
        self._begun = False
        self.skipped: list[str] = []
        self.values: ValueRange | None = None
        self.info = SourceInfo(self._name)
        try:
            self._first = next(self._frames, None)
            if self._first is None:
                raise DataError(self._nothing_there())
        except BaseException:
            self.close()
            raise
        self.info = SourceInfo(
            self._name,
            count=self._options.frames_of(self._stream.frames or None, float(self._fps)),
            size_hw=(self._first.image.shape[0], self._first.image.shape[1]),
            fps=self._fps / self._options.vid_stride,
            is_video=True,
            files=() if self._file is None else ((self._name, self._file),),
        )

    def __iter__(self) -> Iterator[Frame]:
        if self._begun:
            raise UsageError(f"The frames of {public(self._source)} were taken already: open the video again.")
        self._begun = True
        first, self._first = self._first, None
        assert first is not None
        try:
            for frame in itertools.islice(itertools.chain([first], self._frames), self._options.max_frames):
                if frame.image.shape[:2] != self.info.size_hw:
                    raise DataError(
                        f"The video {public(self._source)} changes its size at frame {frame.index}; cut it there."
                    )
                yield Frame(frame.image, frame.name, frame.index, frame.time_s, frame.file, self.info)
        except DataError as error:
            self.skipped.append(str(error))
            return
        if self._tally.damaged:
            self.skipped.append(self._damage())

    def close(self) -> None:
        """Closes the file. Twice is as once."""
        self._frames.close()
        self._container.close()

    def _taken(self) -> Generator[Frame]:
        """The frames that are asked for. Raises DataError where the video ends too early."""
        options = self._options
        for index, (time_s, picture) in enumerate(self._from_start()):
            if options.is_over(time_s):
                return
            if index % options.vid_stride == 0:
                yield Frame(to_bgr(picture), f"{self._name}_{index:06d}", index, time_s, self._file)

    def _from_start(self) -> Iterator[tuple[float, VideoFrame]]:
        """The pictures from the wanted start on, with their times."""
        start = self._options.start
        if not start:
            return self._timed(None)
        first_s = next((time_s for time_s, _ in self._timed(0.0)), 0.0)
        timed: Iterator[tuple[float, VideoFrame]] = iter(())
        for early_s in (0.0, MOST_EARLY_S, None):  # an index may be wrong, or not there: then all before is decoded
            if early_s is None:
                self._reopen()
            elif not self._seek(first_s + max(0.0, start - early_s)):
                continue
            found = self._timed(first_s)
            one = next(found, None)
            timed = found if one is None else itertools.chain([one], found)
            if one is not None and one[0] <= start:
                break
        return ((time_s, picture) for time_s, picture in timed if time_s >= start - SAME_S)

    def _reopen(self) -> None:
        self._container.close()
        self._container = open_container(self._source)
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self._decoded = 0

    def _seek(self, time_s: float) -> bool:
        """Whether it went to a keyframe before that time, as the index has it."""
        av = pyav("reading a video")
        assert self._stream.time_base is not None
        try:
            self._container.seek(int(time_s / self._stream.time_base), stream=self._stream, backward=True)
        except av.FFmpegError:
            return False
        self._stream.codec_context.flush_buffers()
        return True

    def _timed(self, first_s: float | None) -> Generator[tuple[float, VideoFrame]]:
        """Every picture with its time since the first one. Raises DataError where the video ends too early."""
        av = pyav("reading a video")
        source, tally, declared = public(self._source), self._tally, self._stream.frames
        try:
            for picture in pictures(self._container, self._stream, tally):
                if picture is None:
                    continue
                own_s = time_of(picture, self._stream)
                if own_s is None:  # raw streams have no clock
                    time_s = float(self._decoded / self._fps)
                else:
                    first_s = own_s if first_s is None else first_s
                    time_s = own_s - first_s
                self._decoded += 1
                yield time_s, picture
        except av.FFmpegError as error:
            raise DataError(
                f"The video {source} is damaged or cut off after {self._decoded} frames ({reason_of(error)}): "
                "what came before was used; copy or encode it again."
            ) from error
        # The containers of other formats count what they do not hold.
        counts = "mp4" in self._container.format.name and not self._options.start
        if counts and tally.packets < declared * (1 - MISSING_PART):
            # Packets, not pictures: a cut without encoding again hides some.
            raise DataError(
                f"The video {source} ends after {tally.packets} of {declared} frames: it is damaged or cut "
                "off; what there is was used; copy or encode it again."
            )

    def _nothing_there(self) -> str:
        options, source = self._options, public(self._source)
        if self._decoded and (options.start or options.end is not None):
            return f"The video {source} has no frame in the time that was asked for: it ends earlier, or begins later."
        return f"The video {source} holds no frame that can be decoded: it may be damaged."

    def _damage(self) -> str:
        tally = self._tally
        where = " to ".join(f"{time_s:.1f}" for time_s in dict.fromkeys(tally.times_s))
        return (
            f"The video {public(self._source)} is damaged in {counted(tally.damaged, 'place')}"
            f"{f', at {where} s' if where else ''}: {counted(self._decoded, 'frame')} could be decoded and were used; "
            "copy or encode it again."
        )

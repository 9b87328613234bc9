# SPDX-License-Identifier: Apache-2.0
"""One stream that has no end of its own: connected, lost, connected again, with times that know of the gap."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.sources.addresses import is_address, public
from centermask_runtime.sources.connections import CLOCK_S, Connection, Picture, connect
from centermask_runtime.sources.options import SourceOptions
from centermask_runtime.sources.source import Frame, SourceInfo

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0  # before a lost stream is tried again: twice as long each time


@dataclass
class StreamState:
    """How a stream is doing."""

    name: str
    frames: int = 0  # that it gave
    dropped: int = 0  # of those, the ones that came too late for the queue
    connections: int = 0
    damaged: int = 0  # packets
    is_connected: bool = False
    last_error: str = ""


class LiveStream:
    """An iterable of a stream's frames, for one thread; it ends when `stop` is set or the stream is given up.

    Time goes on while a stream is lost, so that the times of its frames always grow; their numbers have no gap but that
    of dropped ones. After a change of size the frames say another `source`.
    """

    def __init__(self, source: str | int, name: str, options: SourceOptions, stop: threading.Event) -> None:
        self._source, self._options, self._stop = source, options, stop
        self._connection: Connection | None = None
        self._begun_s: float | None = None
        self._last_picture_s = time.monotonic()
        self.state = StreamState(name)
        self.is_live = isinstance(source, int) or is_address(source)
        self.given_up = ""
        self.info = SourceInfo(name, is_video=True, is_live=self.is_live)

    def connect(self) -> DataError | UsageError | None:
        """Opens the stream, unless it is to stop -> what was wrong, if anything."""
        try:
            self._connection = connect(self._source, self._options)
        except (DataError, UsageError) as error:
            self.state.last_error = str(error)
            return error
        connection = self._connection
        self.state.connections += 1
        self.state.is_connected = True
        name = self.state.name
        files = () if connection.file is None else ((name, connection.file),)
        self.info = replace(self.info, fps=connection.fps, files=files)
        return None

    def __iter__(self) -> Iterator[Frame]:
        try:
            yield from self._connected_again()
        finally:
            self.close()

    def _connected_again(self) -> Iterator[Frame]:
        """The frames of one connection after the other."""
        wait_s, lost_s = FIRST_WAIT_S, None
        while not self._stop.is_set():
            reason = self.state.last_error
            if self._connection is not None or self.connect() is None:
                try:
                    for frame in self._frames():
                        if lost_s is not None:
                            self._back(lost_s, frame)
                        wait_s, lost_s = FIRST_WAIT_S, None
                        yield frame
                        if self._is_over():
                            return
                    reason = "it ended"
                except DataError as error:
                    reason = str(error)
                self.close()
                if self._stop.is_set() or not self.is_live or self._is_over():
                    return
            lost_s = self._lost(lost_s, reason)
            if self._gives_up() or self._stop.wait(wait_s):
                return
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def close(self) -> None:
        """Closes the connection. By the thread that reads, or when none does."""
        connection, self._connection = self._connection, None
        self.state.is_connected = False
        if connection is not None:
            self.state.damaged += connection.damaged
            connection.close()

    def _frames(self) -> Iterator[Frame]:
        """The frames of one connection. Raises DataError where it is lost or stalls."""
        connection, options, state = self._connection, self._options, self.state
        assert connection is not None
        offset_s: float | None = None  # what is added to the connection's clock
        read, last_s = 0, time.monotonic()
        for picture in connection.pictures():
            now = time.monotonic()
            if picture is None:
                if self._stop.is_set():
                    return
                if now - last_s > options.stall:
                    raise DataError(f"no picture came for {options.stall:g} seconds")
                continue
            last_s = self._last_picture_s = now
            if self._begun_s is None:
                self._begun_s = now
            since_s = now - self._begun_s
            if self.is_live and (offset_s is None or abs(picture.time_s + offset_s - since_s) > CLOCK_S):
                offset_s = since_s - picture.time_s  # a clock that jumps is set by ours
            time_s = picture.time_s + (offset_s or 0.0)
            if options.is_over(time_s):
                self._options = replace(options, max_frames=max(state.frames, 1))
                return
            read += 1
            if (read - 1) % options.vid_stride or time_s < options.start:
                continue
            yield self._frame(picture, time_s)

    def _frame(self, picture: Picture, time_s: float) -> Frame:
        image = picture.image()
        size_hw = image.shape[0], image.shape[1]
        if self.info.size_hw != size_hw:
            self.info = replace(self.info, size_hw=size_hw)
        index, name = self.state.frames, self.state.name
        self.state.frames += 1
        file = self._connection.file if self._connection is not None else None
        return Frame(image, f"{name}_{index:06d}", index, time_s, file, self.info)

    def _is_over(self) -> bool:
        most = self._options.max_frames
        return most is not None and self.state.frames >= most

    def _lost(self, lost_s: float | None, reason: str) -> float:
        """Since when it is lost, which is told once."""
        self.state.last_error = reason
        if lost_s is not None:
            return lost_s
        self._tell(f"The stream {self.state.name} is lost ({reason.rstrip('.')}): it is tried again.")
        return time.monotonic()

    def _back(self, lost_s: float, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        self._tell(
            f"The stream {self.state.name} is back after {time.monotonic() - lost_s:.1f} s, {width} x {height} pixels."
        )

    def _gives_up(self) -> bool:
        most = self._options.give_up
        if most is None or time.monotonic() - self._last_picture_s < most:
            return False
        self.given_up = (
            f"The stream {public(str(self._source))} was given up after {most:g} seconds without a picture "
            f"({self.state.last_error.rstrip('.')})."
        )
        self._tell(self.given_up)
        return True

    def _tell(self, sentence: str) -> None:
        if self._options.notice is not None:
            self._options.notice(sentence)

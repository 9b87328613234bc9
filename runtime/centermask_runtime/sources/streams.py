# SPDX-License-Identifier: Apache-2.0
"""Several streams at once, or one: each is read by a thread of its own, and one that is lost stops no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from centermask_runtime.closing import Closing
from centermask_runtime.errors import DataError, UsageError, counted
from centermask_runtime.queues import ReadAhead, no_poll
from centermask_runtime.sources.addresses import address_name, is_address, stream_name
from centermask_runtime.sources.live import LiveStream, StreamState
from centermask_runtime.sources.names import FrameNames
from centermask_runtime.sources.options import SourceOptions
from centermask_runtime.sources.source import Frame, SourceInfo
from centermask_runtime.value_range import ValueRange

QUEUED = 16  # frames of a stream that wait while others are computed; with realtime it is one


class StreamsSource(Closing):
    """A Source of live streams: addresses, cameras by their number, and files, which are read as streams are.

    They are connected when this is made, all at once; those that do not answer then are tried again, and where none
    answers, DataError is raised. Frames come in turn from those that have one. A stream's frame that is late is dropped
    and counted; a file's waits.
    """

    def __init__(
        self, streams: Sequence[str | int], options: SourceOptions | None = None, names: FrameNames | None = None
    ) -> None:
        """names: that sources before this one have taken from."""
        options, names = options or SourceOptions(), names or FrameNames()
        self._stop = threading.Event()
        self._streams = [LiveStream(one, names.of_video(_name_of(one)), options, self._stop) for one in streams]
        errors = _at_once([stream.connect for stream in self._streams])
        found = [error for error in errors if error is not None]
        if len(found) == len(self._streams) or any(isinstance(error, UsageError) for error in found):
            self._stop.set()
            for stream in self._streams:
                stream.close()
            raise found[0]
        parts = tuple(stream.info for stream in self._streams)
        several = len(parts) > 1
        self.info = SourceInfo(
            "streams" if several else parts[0].name,
            count=options.max_frames if not several else None,
            size_hw=None if several else parts[0].size_hw,
            fps=None if several else parts[0].fps,
            is_video=not several,
            files=tuple(file for part in parts for file in part.files),
            is_live=True,
            parts=parts if several else (),
        )
        self.values: ValueRange | None = None
        self._live = options.realtime, 1 if options.realtime else QUEUED
        self._ahead: ReadAhead[Frame] | None = None

    @property
    def states(self) -> tuple[StreamState, ...]:
        """How each stream is, as of now: frames, drops, connections."""
        for place, stream in enumerate(self._streams):
            stream.state.dropped = 0 if self._ahead is None else self._ahead.dropped[place]
        return tuple(stream.state for stream in self._streams)

    @property
    def skipped(self) -> list[str]:
        """A sentence for each stream that was given up."""
        return [stream.given_up for stream in self._streams if stream.given_up]

    def take(self, most: int = 1, poll: Callable[[], None] = no_poll) -> list[Frame]:
        """The next frames that are there, of the streams in turn; waits for the first. None at the end of all."""
        if self._ahead is None:
            drops = [stream.is_live for stream in self._streams]
            self._ahead = ReadAhead(self._streams, self._live[1], drops=drops, size=lambda frame: frame.image.nbytes)
        return self._ahead.take(most, poll)

    def __iter__(self) -> Iterator[Frame]:
        while frames := self.take():
            yield from frames
        if not any(state.frames for state in self.states):
            raise DataError(f"None of {counted(len(self._streams), 'stream')} gave a picture: {self.skipped[0]}")

    def close(self) -> None:
        """Ends the threads and closes the connections. A read that hangs ends by its time-out."""
        self._stop.set()
        if self._ahead is not None:
            self._ahead.close()  # each thread closes what it reads
            return
        for stream in self._streams:
            stream.close()


def _name_of(stream: str | int) -> str:
    if isinstance(stream, int):
        return f"camera_{stream}"
    if not is_address(stream):
        return Path(stream).stem
    return Path(address_name(stream)).stem if stream.lower().startswith("file://") else stream_name(stream)


def _at_once(tasks: Sequence[Callable[[], DataError | UsageError | None]]) -> list[DataError | UsageError | None]:
    """Runs each in a thread of its own, and gives their answers in order."""
    answers: list[DataError | UsageError | None] = [None] * len(tasks)

    def run(place: int) -> None:
        answers[place] = tasks[place]()

    threads = [threading.Thread(target=run, args=(place,), daemon=True) for place in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers

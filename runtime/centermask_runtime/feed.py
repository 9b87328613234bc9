# SPDX-License-Identifier: Apache-2.0
"""The two ends of the loop: frames that are read ahead of the pipeline, and results that are written behind it."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.instances import Instances
from centermask_runtime.queues import ReadAhead, WriteBehind, no_poll
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.sinks.sink import Sink
from centermask_runtime.sources.arrays import ArraySource
from centermask_runtime.sources.source import Frame, Source
from centermask_runtime.sources.streams import StreamsSource

AHEAD = 4  # frames that are read and wait
BEHIND = 2  # results that wait to be drawn, and drawn ones that wait to be written

Pictures = dict[DrawStyle | None, NDArray[np.uint8] | None]


class Feed(Closing):
    """The frames of a source for a pipeline; it remembers those whose results are not there yet.

    Files and videos are read by a thread, and streams by their own; what a program gives is read by the thread that
    asks for it, and copied, as it may fill the same array again. An interrupt ends the frames, so that those under way
    come to their end, and is kept in `interrupt`.
    """

    def __init__(self, source: Source | Iterable[Frame], poll: Callable[[], None] = no_poll) -> None:
        """poll: called between frames and while none comes; a KeyboardInterrupt that it raises is an interrupt."""
        self._source, self._poll = source, poll
        self._given: Iterator[Frame] | None = None
        self._ahead: ReadAhead[Frame] | None = None
        self._first: deque[Frame] = deque()
        self.waiting: deque[Frame] = deque()  # given to the pipeline
        self.reading_s = 0.0
        self.streams = len(source.info.parts) if isinstance(source, StreamsSource) else 0  # that are read at once
        self.interrupt: KeyboardInterrupt | None = None

    def begin(self) -> None:
        """Reads the first frame, so that a source that cannot be read raises before anything is written."""
        self._first.extend(self._take(1))

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """The frames' images, one by one."""
        while frames := self.take(1):
            self.waiting.extend(frames)
            yield frames[0].image

    def take(self, most: int) -> list[Frame]:
        """The next frames that are there, `most` at most; none at the end."""
        if self._first:
            return [self._first.popleft()]
        start = time.perf_counter()
        try:
            self._poll()
            return self._take(most)
        except KeyboardInterrupt as interrupt:
            self.interrupt = interrupt
            return []
        finally:
            self.reading_s += time.perf_counter() - start

    def close(self) -> None:
        """Ends the thread. The source stays open."""
        if self._ahead is not None:
            self._ahead.close()

    def _take(self, most: int) -> list[Frame]:
        if isinstance(self._source, StreamsSource):
            return self._source.take(most, self._poll)
        if isinstance(self._source, ArraySource) or not isinstance(self._source, Closing):
            if self._given is None:
                self._given = iter(self._source)
            frame = next(self._given, None)
            return [] if frame is None else [dataclasses.replace(frame, image=frame.image.copy())]
        if self._ahead is None:
            self._ahead = ReadAhead([self._source], AHEAD, size=lambda frame: frame.image.nbytes)
        return self._ahead.take(most, self._poll)


@dataclasses.dataclass(frozen=True)
class _Found:
    frame: Frame
    instances: Instances
    pictures: Pictures


class Writer(Closing):
    """Draws results and gives them to sinks, by a thread for each of the two, in their order."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self.styles = {sink.style for sink in sinks if sink.style is not None}
        self._add = WriteBehind(self._added, BEHIND, "write")
        self._draw = WriteBehind(self._drawn, BEHIND, "draw")

    def put(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None) -> None:
        """One result. picture: in the one style that is asked for, if the pipeline draws. Raises what sinks raise."""
        drawn: Pictures = {} if picture is None else dict.fromkeys(self.styles, picture)
        self._draw.put(_Found(frame, instances, drawn))

    def finish(self) -> None:
        """Waits until all is written. Raises what sinks raise."""
        self._draw.finish()
        self._add.finish()

    def close(self) -> None:
        """Leaves what is not begun."""
        self._draw.close()
        self._add.close()

    def _drawn(self, found: _Found) -> None:
        pictures: Pictures = {None: None}
        for style in self.styles:
            given = found.pictures.get(style)
            pictures[style] = draw(found.frame.image, found.instances, style) if given is None else given
        self._add.put(dataclasses.replace(found, pictures=pictures))

    def _added(self, found: _Found) -> None:
        for sink in self._sinks:
            sink.add(found.frame, found.instances, found.pictures[sink.style])

# SPDX-License-Identifier: Apache-2.0
"""Bounded queues between threads: things are read ahead of their use, and finished behind it, in their order.

What a thread raises is raised again where its things are taken or given. Threads are daemons: a read that hangs in a
library cannot keep the process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

from centermask_runtime.closing import Closing

T = TypeVar("T")
POLL_S = 0.1  # how often a waiting thread looks whether it is to stop
JOIN_S = 5.0  # how long close() waits for a thread
MOST_BYTES = 256 << 20  # that things read ahead may take, all together; one may be larger


def no_poll() -> None:
    """Nothing to look after while waiting."""


class ReadAhead(Closing, Generic[T]):
    """Reads one or several iterables, each in a thread of its own; whoever takes gets things of each in turn.

        with ReadAhead([source], depth=4) as frames:
            for frame in frames: ...

    Where a queue is full, its thread waits, or with `drops` the oldest thing goes and is counted. It waits, too, where
    all things together would take more than MOST_BYTES.
    """

    def __init__(
        self,
        sources: Iterable[Iterable[T]],
        depth: int,
        *,
        drops: Sequence[bool] = (),
        size: Callable[[T], int] | None = None,
    ) -> None:
        """depth: things of each that wait at most. drops: of each, as above. size: the bytes of a thing."""
        assert depth > 0, depth
        self._sources = list(sources)
        self._depth, self._drops, self._size = depth, drops or [False] * len(self._sources), size
        self._queues: list[deque[T]] = [deque() for _ in self._sources]
        self._bytes = 0
        self._turn = 0
        self._errors: list[BaseException] = []
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = [0] * len(self._sources)  # things that came too late for the queue
        self._threads = [
            threading.Thread(target=self._read, args=(place,), name=f"read-{place}", daemon=True)
            for place in range(len(self._sources))
        ]
        self._alive = len(self._threads)
        for thread in self._threads:
            thread.start()

    def take(self, most: int = 1, poll: Callable[[], None] = no_poll) -> list[T]:
        """The next things, at least one and at most `most` of those that are there; none at the end of all.

        poll: is called while nothing comes. Raises what reading raised, after everything that was read before it.
        """
        with self._changed:
            while not any(self._queues):
                if not self._alive or self._closed:
                    if self._errors:
                        raise self._errors.pop(0)
                    return []
                self._changed.wait(POLL_S)
                poll()
            taken: list[T] = []
            while len(taken) < most and any(self._queues):
                queue = self._queues[self._turn]
                self._turn = (self._turn + 1) % len(self._queues)
                if queue:
                    taken.append(queue.popleft())
                    self._bytes -= self._size_of(taken[-1])
            self._changed.notify_all()
            return taken

    def __iter__(self) -> Iterator[T]:
        while taken := self.take():
            yield from taken

    def close(self) -> None:
        """Ends the threads, each when the read that it is in returns. Twice is as once."""
        with self._changed:
            self._closed = True
            for queue in self._queues:
                queue.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(JOIN_S)

    def _read(self, place: int) -> None:
        things = iter(self._sources[place])
        try:
            for thing in things:
                if not self._put(place, thing):
                    break
        except BaseException as error:  # whatever it is, it belongs to who takes
            with self._changed:
                self._errors.append(error)
        finally:
            close = getattr(things, "close", None)  # of a generator, in its own thread
            if close is not None:
                close()
            with self._changed:
                self._alive -= 1
                self._changed.notify_all()

    def _put(self, place: int, thing: T) -> bool:
        """Whether more is wanted."""
        queue, size = self._queues[place], self._size_of(thing)
        with self._changed:
            if self._drops[place] and len(queue) >= self._depth:
                self._bytes -= self._size_of(queue.popleft())
                self.dropped[place] += 1
            while not self._closed and (
                len(queue) >= self._depth or (self._bytes + size > MOST_BYTES and any(self._queues))
            ):
                self._changed.wait()
            if self._closed:
                return False
            queue.append(thing)
            self._bytes += size
            self._changed.notify_all()
            return True

    def _size_of(self, thing: T) -> int:
        return 0 if self._size is None else self._size(thing)


class WriteBehind(Closing, Generic[T]):
    """Gives things to a function in a thread of its own, in the order in which they were put."""

    def __init__(self, function: Callable[[T], None], depth: int, name: str) -> None:
        self._function, self._depth = function, depth
        self._queue: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name=name, daemon=True)
        self._thread.start()

    def put(self, thing: T) -> None:
        """Waits for room. Raises what the function raised; nothing more is done then."""
        with self._changed:
            while len(self._queue) >= self._depth and self._error is None:
                self._changed.wait(POLL_S)
            self._raise()
            self._queue.append(thing)
            self._changed.notify_all()

    def finish(self) -> None:
        """Waits until everything is done. Raises what the function raised."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(POLL_S)
        self._raise()

    def close(self) -> None:
        """Leaves what is not begun, and waits for what is."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(POLL_S)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _write(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._ended and not self._closed:
                    self._changed.wait()
                if not self._queue or self._closed:
                    return
                thing = self._queue.popleft()
                self._changed.notify_all()
            try:
                self._function(thing)
            except BaseException as error:  # whatever it is, it belongs to who puts
                with self._changed:
                    self._error = error
                    self._queue.clear()
                    self._changed.notify_all()
                return

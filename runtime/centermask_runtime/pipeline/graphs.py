# SPDX-License-Identifier: Apache-2.0
"""The CUDA graphs of a pipeline: when the work of a frame is captured, launched and dropped, and why there is none.

The first frame runs without a graph, because a network allocates and compiles at its first run, which no capture takes;
then the network is asked. From then on, work that a slot gets a second time in a row is captured and launched as one
graph, as long as its key stays the same. Other work in between runs as it is, since a capture costs more than it saves
once, and leaves the graph in its place. Where driver or network refuse, or a capture fails, there are no graphs at all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from centermask_runtime.closing import Closing
from centermask_runtime.cuda.driver import Driver, DriverError
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.reference.nv12 import YuvMatrix


@dataclass(frozen=True)
class GraphKey:
    """All that the work of a slot depends on."""

    frame_hw: tuple[int, int]
    matrix: YuvMatrix | None  # of NV12 frames
    count: int  # frames
    alone: bool  # whether the copies are part of it
    moves: int  # of the slot's memory


class State(Enum):
    COLD = auto()  # nothing has run yet
    WARM = auto()  # work that comes again is captured
    REFUSED = auto()  # for good


@dataclass
class _SlotGraph:
    """What a slot did last, and what it has a graph of."""

    last: GraphKey | None = None
    captured: GraphKey | None = None
    graph: int = 0


class FrameGraphs(Closing):
    """Owns the graphs, at most one per slot, all on one stream."""

    def __init__(
        self, driver: Driver, stream: int, ask_network: Callable[[int], str | None], refusal: str | None = None
    ) -> None:
        """ask_network: why its work on a stream cannot be captured, or None; see GpuNetwork.capture_refusal.

        refusal: why nothing is to be captured at all.
        """
        self._driver, self._stream, self._ask_network = driver, stream, ask_network
        self._refusal = refusal
        self._slots: dict[Hashable, _SlotGraph] = {}
        self.state = State.COLD if refusal is None else State.REFUSED

    @property
    def description(self) -> str:
        """For people: whether frames are graphs by now, and why not."""
        if self.state is State.REFUSED:
            return f"no CUDA graph: {self._refusal}"
        if any(slot.graph for slot in self._slots.values()):
            return "one CUDA graph per frame"
        return "no CUDA graph yet: one is captured when a frame size comes again"

    def run(self, slot: Hashable, key: GraphKey, put: Callable[[], None]) -> None:
        """Puts the work of a slot on the stream, by its graph where there is one of this key, else by calling `put`."""
        its = self._slots.setdefault(slot, _SlotGraph())
        repeated, its.last = its.last == key, key
        if self.state is State.WARM and repeated and its.captured != key:
            self._capture(its, key, put)
        if self.state is State.WARM and its.captured == key:
            self._driver.launch_graph(its.graph, self._stream)
            return
        put()
        if self.state is State.COLD:
            self.state = State.WARM
            why = self._ask_network(self._stream)
            if why is not None:
                self._refuse(why)

    def close(self) -> None:
        """Drops all graphs; nothing may be under way."""
        for slot in self._slots.values():
            self._drop(slot)

    def _capture(self, slot: _SlotGraph, key: GraphKey, put: Callable[[], None]) -> None:
        try:
            graph = self._captured(put)
        except CenterMaskError as error:
            self._refuse(f"the capture failed: {error}")
            return
        self._drop(slot)
        slot.graph, slot.captured = graph, key

    def _captured(self, put: Callable[[], None]) -> int:
        self._driver.begin_capture(self._stream)
        try:
            put()
        except BaseException:
            with suppress(DriverError):  # takes the stream out of capture; what it says now is known already
                self._driver.destroy_graph(self._driver.end_capture(self._stream))
            raise
        return self._driver.end_capture(self._stream)

    def _refuse(self, why: str) -> None:
        self.state, self._refusal = State.REFUSED, why

    def _drop(self, slot: _SlotGraph) -> None:
        if slot.graph:
            self._driver.destroy_graph(slot.graph)
        slot.graph, slot.captured = 0, None

# SPDX-License-Identifier: Apache-2.0
"""A frame to Instances on the GPU: up go the pixels, down come counts, boxes and packed masks, and nothing else.

The steps are in gpu_work.py, all on one compute stream; here it is decided which frames are under way when, and whose
results are whose. A single call has everything on the compute stream, copies included. Where frames follow each other,
each slot copies on a stream of its own, so that uploads and downloads overlap with the frame that is being computed.
What is on the compute stream becomes a CUDA graph where driver and network allow it: see graphs.py.

A network for batches of N takes up to N frames of one size in one call, and so does every kernel.

Whoever needs a slot when none is free waits for the oldest frames under way, whose results are kept for their owner. So
frames may be under way, or forgotten, for several callers and threads, and nobody waits for another to take results.

Several videos: one pipeline each, with a network (an engine's context) each, on one driver.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from threading import RLock
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.errors import CenterMaskError, UsageError
from centermask_runtime.instances import Instances
from centermask_runtime.networks.gpu_network import GpuNetwork
from centermask_runtime.pipeline.batches import in_batches, together
from centermask_runtime.pipeline.frame import AnyFrame, FrameFit, StageTimes, as_bgr
from centermask_runtime.pipeline.gpu_work import Found, GpuWork, Job
from centermask_runtime.reference import overlay
from centermask_runtime.selection import Selection


@dataclass(eq=False)
class _UnderWay:
    """Frames that are computed together, until somebody takes their results."""

    job: Job
    done: bool = False
    found: list[Found] = field(default_factory=list)
    error: BaseException | None = None


class GpuPipeline(Closing):
    """Frames uint8 [H, W, 3] BGR or NV12 of any size -> Instances, equal to Pipeline's bit for bit.

    It owns the network, not the driver. Several threads may call it at once; their frames take turns.

        with GpuPipeline(driver, network) as pipeline:
            for found in pipeline.each(frames):
                print(len(found), pipeline.graph)
    """

    draws = True

    def __init__(
        self,
        driver: Driver,
        network: GpuNetwork,
        selection: Selection | None = None,
        *,
        slots: int = 2,
        stream: int | None = None,
        graphs: bool = True,
        stage_times: bool = False,
        run_lengths: bool = False,
        kernels: bytes | None = None,
    ) -> None:
        """selection: which objects are kept; None is what the network's spec says.

        slots: calls of the network that may be under way at once. stream: compute on this one, of any library that
        shares the primary context. graphs: False for no CUDA graphs. stage_times: `timed` gives the GPU's times, for
        which there are no graphs. run_lengths: the masks bring theirs along, ready for COCO results. kernels: code for
        the driver, else the shipped or compiled one. Raises UsageError, DriverError, CompileError.
        """
        with ExitStack() as made:
            made.callback(network.close)  # first of all: it is ours also where something below is refused
            if slots < 1:
                raise UsageError(f"slots must be at least 1, not {slots}.")
            if stream is not None and network.stream not in (None, stream):
                raise UsageError("The pipeline was given another stream than its network works on: give both the same.")
            self.driver, self.network, self.spec, self.slots = driver, network, network.spec, slots
            self.selection = Selection.of(network.spec) if selection is None else selection
            given = network.stream if stream is None else stream
            self._stream = driver.create_stream() if given is None else given
            if given is None:
                made.callback(driver.destroy_stream, self._stream)
            self._work = made.enter_context(
                GpuWork(
                    driver, network, self.selection, self._stream,
                    graphs=graphs, stage_times=stage_times, run_lengths=run_lengths, kernels=kernels,
                )
            )  # fmt: skip
            self._slots = [made.enter_context(self._work.new_slot()) for _ in range(slots)]
            self._resources = made.pop_all()
        self._fit = FrameFit(self.spec.input_hw)
        self._free = list(self._slots)
        self._under_way: deque[_UnderWay] = deque()  # the oldest first
        self._closed = False
        self._lock = RLock()

    @property
    def graph(self) -> str:
        """Whether frames are CUDA graphs by now, or why not, in words."""
        return self._work.graphs.description

    @property
    def description(self) -> str:
        """The network's back end, driver and device in words, and whether its work is a CUDA graph by now."""
        return f"{self.network.description}, {self.driver.name}, {self.graph}"

    def __call__(self, frame: AnyFrame) -> Instances:
        """What is in one frame. Raises DataError when it is not uint8 [H, W, 3], UsageError after close()."""
        return self.timed(frame)[0]

    def timed(self, frame: AnyFrame) -> tuple[Instances, StageTimes | None]:
        """What is in one frame, and the GPU's times of its stages where stage_times were asked for."""
        start = time.perf_counter()
        with self._lock:
            ((instances, _),) = self._results(self._begin([frame], alone=True))
            return instances, self._work.stage_times(start)

    def each(self, frames: Iterable[AnyFrame], *, ahead: bool = True) -> Iterator[Instances]:
        """What is in each frame, in their order, with as many under way as there are slots, whatever `ahead` says.

        A frame may change as soon as the next one is asked for. Where the frames end in an error, all results before it
        come first.
        """
        return (instances for instances, _ in self._through(in_batches(frames, self.network.batch)))

    def many(self, frames: Sequence[AnyFrame]) -> list[Instances]:
        """What is in each of a few frames that are all there. Those of one size go through the network together."""
        batches = together(frames, self.network.batch)
        results = self._through([frames[place] for place in places] for places in batches)
        places = [place for batch in batches for place in batch]
        found = dict(zip(places, (instances for instances, _ in results), strict=True))
        return [found[place] for place in range(len(frames))]

    def drawn(
        self, frames: Iterable[AnyFrame], style: overlay.DrawStyle = overlay.DEFAULT_STYLE
    ) -> Iterator[tuple[Instances, NDArray[np.uint8]]]:
        """What is in each frame, and the frame with it drawn on top: the GPU draws, the host writes the labels.

        Equal to reference/overlay.py bit for bit where Stages.draw is. In their order, as `each`.
        """
        for instances, picture in self._through(in_batches(map(as_bgr, frames), self.network.batch), style):
            assert picture is not None
            yield instances, picture

    def close(self) -> None:
        """Waits for what is under way, then gives everything back. Closing twice is the same as closing once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for begun in self._under_way:
                begun.done, begun.error = True, _closed_error()
            self._under_way.clear()
            try:
                self._synchronize()
            except BaseException:
                with suppress(CenterMaskError):  # an error that stays: giving back says it again
                    self._resources.close()
                raise
            self._resources.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(CenterMaskError) if error is not None else nullcontext():  # the first error is the one to see
            super().__exit__(kind, error, trace)

    def _through(self, batches: Iterable[list[AnyFrame]], style: overlay.DrawStyle | None = None) -> Iterator[Found]:
        """The results of batches in their order. An error of the batches comes after all results before it."""
        begun = (self._begin(batch, alone=self.slots == 1, style=style) for batch in batches)
        waiting: deque[_UnderWay] = deque()
        failure: Exception | None = None
        while True:
            try:
                waiting.append(next(begun))
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            if len(waiting) > self.slots:
                yield from self._results(waiting.popleft())
        for frames in waiting:
            yield from self._results(frames)
        if failure is not None:
            raise failure

    def _begin(self, frames: Sequence[AnyFrame], *, alone: bool, style: overlay.DrawStyle | None = None) -> _UnderWay:
        """Puts frames of one kind on their way; they are copied before this returns. alone: on one stream."""
        with self._lock:
            if self._closed:
                raise _closed_error()
            letterbox = self._fit(frames[0])
            if not self._free:
                self._complete(self._under_way[0])
            slot = self._free.pop()
            try:
                begun = _UnderWay(self._work.take(slot, frames, letterbox, style, alone=alone))
            except BaseException:
                with suppress(CenterMaskError):  # what was put before the error may still use the slot's memory
                    self._synchronize()
                self._free.append(slot)
                raise
            self._under_way.append(begun)
            return begun

    def _results(self, begun: _UnderWay) -> list[Found]:
        """What was found in frames that were begun; waits for it."""
        with self._lock:
            if not begun.done:
                self._complete(begun)
            if begun.error is not None:
                raise begun.error
            return begun.found

    def _complete(self, begun: _UnderWay) -> None:
        """Waits for frames, keeps their results or their error, and frees their slot."""
        self._under_way.remove(begun)
        begun.done = True
        try:
            begun.found = self._work.read(begun.job)
        except BaseException as error:
            begun.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._free.append(begun.job.slot)

    def _synchronize(self) -> None:
        for stream in (*(slot.own_stream for slot in self._slots), self._stream):
            self.driver.synchronize(stream)


def _closed_error() -> UsageError:
    return UsageError("The pipeline is closed: open the model again before the next frame.")

# SPDX-License-Identifier: Apache-2.0
"""A frame to Instances on the GPU: up go the pixels, down come counts, boxes and packed masks, and nothing else.

    upload -> letterbox -> network (-> peaks, heads at the peaks) -> select -> masks (-> run lengths) -> download

All of it is on one compute stream. A single call has everything there, copies included. Where frames follow each other,
each slot copies on a stream of its own, so that uploads and downloads overlap with the frame that is being computed.
What is on the compute stream becomes a CUDA graph where driver and network allow it: see graphs.py.

A network for batches of N takes up to N frames of one size in one call, and so does every kernel.

Several videos: one pipeline each, with a network (an engine's context) each, on one driver.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from threading import RLock
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.cuda import layouts
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.frame_slot import FrameSlot
from centermask_runtime.cuda.workspace import Workspace
from centermask_runtime.errors import CenterMaskError, UsageError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.instances import Instances
from centermask_runtime.networks.gpu_network import GpuNetwork
from centermask_runtime.pipeline.batches import in_batches, together
from centermask_runtime.pipeline.frame import AnyFrame, FrameFit, StageTimes, as_bgr
from centermask_runtime.pipeline.graphs import FrameGraphs, GraphKey
from centermask_runtime.reference import overlay
from centermask_runtime.reference.nv12 import Nv12Frame, YuvMatrix
from centermask_runtime.selection import Selection

MOMENTS = ("start", "letterboxed", "computed", "end")  # events of a timed frame

Found = tuple[Instances, NDArray[np.uint8] | None]  # of a frame, and its picture where one was asked for


@dataclass(eq=False)
class _UnderWay:
    """Frames that are computed together, from their upload until somebody takes their results."""

    slot: FrameSlot
    letterbox: Letterbox
    matrix: YuvMatrix | None  # of NV12 frames
    style: overlay.DrawStyle | None  # of the pictures that are wanted, too
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
            self._workspace = made.enter_context(Workspace(driver, network.spec, kernels, network.batch))
            self._workspace.prepare(self.selection.classes)
            results = layouts.results_layout(network.spec, network.batch)
            self._slots = [
                made.enter_context(FrameSlot(driver, results, self._stream, network.batch, with_runs=run_lengths))
                for _ in range(slots)
            ]
            self._events = {moment: driver.create_event() for moment in (MOMENTS if stage_times else ())}
            for event in self._events.values():
                made.callback(driver.destroy_event, event)
            refusal = _no_graphs(driver, self._stream, graphs, stage_times)
            self._graphs = made.enter_context(FrameGraphs(driver, self._stream, network.capture_refusal, refusal))
            self._resources = made.pop_all()
        self._run_lengths = run_lengths
        self._fit = FrameFit(self.spec.input_hw)
        self._free = list(self._slots)
        self._under_way: deque[_UnderWay] = deque()  # the oldest first
        self._closed = False
        self._lock = RLock()

    @property
    def graph(self) -> str:
        """Whether frames are CUDA graphs by now, or why not, in words."""
        return self._graphs.description

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
            return instances, self._measured(start) if self._events else None

    def each(self, frames: Iterable[AnyFrame]) -> Iterator[Instances]:
        """What is in each frame, in their order, with as many under way as there are slots.

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
            for job in self._under_way:
                job.done, job.error = True, _closed_error()
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
        for job in waiting:
            yield from self._results(job)
        if failure is not None:
            raise failure

    def _begin(self, frames: Sequence[AnyFrame], *, alone: bool, style: overlay.DrawStyle | None = None) -> _UnderWay:
        """Puts frames of one kind on their way; they are copied before this returns. alone: on one stream."""
        with self._lock:
            if self._closed:
                raise _closed_error()
            first = frames[0]
            letterbox = self._fit(first)
            if not self._free:
                self._complete(self._under_way[0])
            slot = self._free.pop()
            job = _UnderWay(slot, letterbox, first.matrix if isinstance(first, Nv12Frame) else None, style)
            try:
                pixels = [frame.pixels if isinstance(frame, Nv12Frame) else frame for frame in frames]
                slot.take(pixels, layouts.largest_arena(self.spec, letterbox.frame_hw), alone=alone)
                self._put(job)
            except BaseException:
                with suppress(CenterMaskError):  # what was put before the error may still use the slot's memory
                    self._synchronize()
                self._free.append(slot)
                raise
            self._under_way.append(job)
            return job

    def _results(self, job: _UnderWay) -> list[Found]:
        """What was found in the job's frames; waits for it."""
        with self._lock:
            if not job.done:
                self._complete(job)
            if job.error is not None:
                raise job.error
            return job.found

    def _complete(self, job: _UnderWay) -> None:
        """Waits for a job, keeps its results or its error in it, and frees its slot."""
        self._under_way.remove(job)
        job.done = True
        try:
            job.found = self._read(job)
        except BaseException as error:
            job.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._free.append(job.slot)

    def _read(self, job: _UnderWay) -> list[Found]:
        slot = job.slot
        self.driver.synchronize(slot.stream)
        while slot.has_grown():  # more than ever before: the frames' pixels are still in their slot
            self._put(job)
            self.driver.synchronize(slot.stream)
        instances = [results.instances(job.letterbox.frame_hw, self.spec) for results in slot.download()]
        if job.style is None:
            return [(found, None) for found in instances]
        self._workspace.stages.draw(
            slot.bgr(), job.letterbox.frame_hw, slot.block, slot.arena, self._workspace.palette, slot.stream,
            masks=job.style.masks, boxes=job.style.boxes,
        )  # fmt: skip
        pictures = slot.download_frames()
        for found, picture in zip(instances, pictures, strict=True):
            overlay.write_labels(picture, found, job.style)
        return list(zip(instances, pictures, strict=True))

    def _put(self, job: _UnderWay) -> None:
        """All of a job's work up to the download of its results, on the streams."""
        slot = job.slot
        if not slot.alone:
            slot.upload()
        key = GraphKey(job.letterbox.frame_hw, job.matrix, slot.count, slot.alone, slot.moves)
        self._graphs.run(slot, key, lambda: self._put_work(job))
        if not slot.alone:
            slot.download_results()

    def _put_work(self, job: _UnderWay) -> None:
        """What a graph holds."""
        slot, letterbox, stream, chosen = job.slot, job.letterbox, self._stream, self.selection
        space, stages, count = self._workspace, self._workspace.stages, job.slot.count
        self._mark("start")
        if slot.alone:
            slot.upload()
        if job.matrix is None:
            stages.letterbox(slot.bgr(), letterbox, space.images, stream)
        else:
            stages.letterbox_nv12(slot.nv12(), letterbox, space.images, stream, job.matrix)
        self._mark("letterboxed")
        self.network.enqueue(space.images, space.outputs_by_name, stream)
        self._mark("computed")
        peaks = space.find_peaks(count, stream, least_score=chosen.score_threshold)
        stages.select(
            peaks, letterbox, slot.block, count, stream,
            allowed=space.allowed, score_threshold=chosen.score_threshold, max_detections=chosen.max_detections,
        )  # fmt: skip
        stages.masks(
            peaks, letterbox, slot.block, slot.arena, space.probabilities, count, stream,
            mask_threshold=chosen.mask_threshold,
        )  # fmt: skip
        if self._run_lengths:
            stages.runs(letterbox.frame_hw, slot.block, slot.arena, slot.runs, count, stream)
        self._mark("end")
        if slot.alone:
            slot.download_results()

    def _mark(self, moment: str) -> None:
        if self._events:
            self.driver.record(self._events[moment], self._stream)

    def _measured(self, start: float) -> StageTimes:
        """The GPU's times of the stages, and the wall clock of the whole. The copies count where they were put."""
        moments = [self._events[moment] for moment in MOMENTS]
        preprocess, network, postprocess = (self.driver.elapsed_ms(a, b) for a, b in pairwise(moments))
        return StageTimes(preprocess, network, postprocess, (time.perf_counter() - start) * 1e3)

    def _synchronize(self) -> None:
        for stream in (*(slot.own_stream for slot in self._slots), self._stream):
            self.driver.synchronize(stream)


def _no_graphs(driver: Driver, stream: int, asked: bool, stage_times: bool) -> str | None:
    """Why nothing is to be captured; None where the network is to be asked."""
    if not asked:
        return "none was asked for"
    if stage_times:
        return "times inside a graph cannot be taken, and stage times were asked for"
    if stream == 0:
        return "CUDA captures no work on the default stream"
    return None if driver.supports_graphs else f"{driver.name} has none"


def _closed_error() -> UsageError:
    return UsageError("The pipeline is closed: open the model again before the next frame.")

# SPDX-License-Identifier: Apache-2.0
"""A frame to Instances on the GPU: up go the pixels, down come counts, boxes and packed masks, and nothing else.

    upload -> letterbox -> network (-> peaks, heads at the peaks) -> select -> masks -> download

With one slot all of that is on one stream. With two or more, frames follow each other on one compute stream while each
slot copies on a stream of its own, so that uploads and downloads overlap with the frame that is being computed.

When a slot gets a second frame of one size in a row, the work is captured as one CUDA graph where driver and network
allow it: with one slot all but the download of the masks, whose size the host learns from the counts; with several what
is on the compute stream. Frames of other sizes go without, since a capture costs more than it saves on one frame. The
attribute `graph` says whether, and why not.

Several videos: one pipeline each, with a network (an engine's context) each, on one driver. A pipeline is for one
thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from itertools import pairwise
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.cuda.buffers import Arena, Frames, HeadPointers, PeakPointers
from centermask_runtime.cuda.compile import kernel_image
from centermask_runtime.cuda.driver import Driver, DriverError
from centermask_runtime.cuda.frame_slot import FrameSlot
from centermask_runtime.cuda.memory import DeviceBuffer
from centermask_runtime.cuda.stages import Stages
from centermask_runtime.errors import CenterMaskError, UsageError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.instances import BoxMasks, Instances
from centermask_runtime.networks.gpu_network import OUTPUT_NAMES, GpuNetwork, outputs_layout
from centermask_runtime.pipeline.frame import AnyFrame, FrameFit, StageTimes, as_bgr
from centermask_runtime.selection import Selection
from centermask_runtime.spec import ModelSpec

MOMENTS = ("start", "letterboxed", "computed", "end")  # events of a timed frame
CHANNELS = 3


class GpuPipeline(Closing):
    """Frames uint8 [H, W, 3] BGR of any size -> Instances, equal to Pipeline's. Owns the network, not the driver."""

    def __init__(
        self,
        driver: Driver,
        network: GpuNetwork,
        selection: Selection | None = None,
        *,
        slots: int = 1,
        stream: int | None = None,
        graphs: bool = True,
        stage_times: bool = False,
        kernels: bytes | None = None,
    ) -> None:
        """selection: which objects are kept; None is what the network's spec says.

        slots: frames that may be under way at once, 2 for double buffering. stream: compute on this one, of any library
        that shares the primary context. stage_times: fill `timings` with the GPU's times, for one slot and no graph.
        kernels: code for the driver, else the shipped or compiled one. Raises UsageError, DriverError, CompileError.
        """
        with ExitStack() as made:
            made.callback(network.close)  # first of all: it is ours also where something below is refused
            assert slots >= 1 and network.batch == 1, (slots, network.batch)
            assert slots == 1 or not stage_times, "stage times of frames that overlap"
            if stream is not None and network.stream not in (None, stream):
                raise UsageError("The pipeline was given another stream than its network works on: give both the same.")
            self.driver, self.network = driver, network
            self.spec = spec = network.spec
            self.selection = Selection.of(spec) if selection is None else selection
            self.timings: StageTimes | None = None  # of the last result, where stage_times were asked for
            self.graph = "no CUDA graph yet: one is captured when a frame size comes again"
            self._refusal: str | None = None
            self._warm = False
            self.letterbox = FrameFit(spec.input_hw)
            self._under_way: deque[tuple[FrameSlot, Letterbox, float]] = deque()
            if not graphs:
                self._refuse("none was asked for")
            elif stage_times:
                self._refuse("times inside a graph cannot be taken, and stage times were asked for")
            elif stream == 0:
                self._refuse("CUDA captures no work on the default stream")
            elif not driver.supports_graphs:
                self._refuse(f"{driver.name} has none")
            code = kernel_image(driver.compute_capability).code if kernels is None else kernels
            self._stages = stages = made.enter_context(Stages(driver, code, spec))
            given = network.stream if stream is None else stream
            self._compute_stream = driver.create_stream() if given is None else given
            if given is None:
                made.callback(driver.destroy_stream, self._compute_stream)
            self._events: dict[str, int] = {}
            for moment in MOMENTS if stage_times else ():
                self._events[moment] = driver.create_event()
                made.callback(driver.destroy_event, self._events[moment])
            outputs, peaks = outputs_layout(spec, 1), stages.peaks_layout()

            def device(nbytes: int) -> DeviceBuffer:
                buffer = DeviceBuffer(driver, nbytes)
                made.callback(buffer.close)
                return buffer

            self._images = device(stages.images_bytes()).pointer
            self._outputs = outputs.at(device(outputs.nbytes).pointer)
            self._peaks = peaks.at(device(peaks.nbytes if spec.graph_level == "heads" else 0).pointer)
            self._probabilities = device(stages.probabilities_bytes()).pointer
            self._allowed = device(spec.num_classes).pointer
            self._output_pointers = {name: self._outputs[name] for name in OUTPUT_NAMES[spec.graph_level]}
            slots_made = []
            for _ in range(slots):
                slots_made.append(FrameSlot(driver, stages.results_layout(), self._compute_stream, alone=slots == 1))
                made.callback(slots_made[-1].close)
            self._free = deque(slots_made)
            allowed = _allowed_classes(spec, self.selection.classes)
            driver.upload(self._allowed, allowed, self._compute_stream)
            driver.synchronize(self._compute_stream)
            self._resources = made.pop_all()

    def __call__(self, frame: AnyFrame) -> Instances:
        """What is in one frame. Raises DataError when it is not uint8 [H, W, 3]."""
        assert not self._under_way, "a call while submitted frames are under way"
        self.submit(frame)
        return self.result()

    @property
    def description(self) -> str:
        """The network's back end, driver and device in words, and whether its work is a CUDA graph by now."""
        return f"{self.network.description}, {self.driver.name}, {self.graph}"

    def each(self, frames: Iterable[AnyFrame]) -> Iterator[Instances]:
        """The results of frames in their order, as many under way as there are slots."""
        return self.stream(frames)

    def many(self, frames: Sequence[AnyFrame]) -> list[Instances]:
        """The results of a few frames, one run of the network per frame."""
        return list(self.stream(frames))

    def timed(self, frame: AnyFrame) -> tuple[Instances, StageTimes | None]:
        """What is in one frame, and the GPU's times of its stages where stage_times were asked for."""
        return self(frame), self.timings

    def stream(self, frames: Iterable[AnyFrame]) -> Iterator[Instances]:
        """The results of frames in their order, as many under way as there are slots."""
        for frame in frames:
            if not self._free:
                yield self.result()
            self.submit(frame)
        while self._under_way:
            yield self.result()

    def submit(self, frame: AnyFrame) -> None:
        """Puts a frame on its way; it is copied before this returns. At most `slots` may be under way."""
        start = time.perf_counter()
        letterbox, frame = self.letterbox(frame), as_bgr(frame)
        assert self._free, "all slots are under way: take a result first"
        slot = self._free.popleft()
        try:
            slot.fit(frame.size, self._stages.largest_arena(letterbox.frame_hw))
            slot.take(frame)
            self._put_frame(slot, letterbox)
        except BaseException:
            self._free.append(slot)
            raise
        self._under_way.append((slot, letterbox, start))

    def result(self) -> Instances:
        """The oldest frame that is under way; waits for it."""
        assert self._under_way, "a result without a frame"
        slot, letterbox, start = self._under_way.popleft()
        try:
            self.driver.synchronize(slot.stream)
            needed = int(slot.results("mask_bytes")[0])
            if needed > slot.arena.nbytes:  # more mask bytes than ever before: the frame's pixels are still in its slot
                slot.grow_arena(needed)
                self._put_frame(slot, letterbox)
                self.driver.synchronize(slot.stream)
            instances = self._instances(slot, slot.download_masks(needed), letterbox)
        finally:
            self._free.append(slot)
        if self._events:
            self.timings = self._measured(start)
        return instances

    def close(self) -> None:
        """Waits for what is under way, then gives everything back. Twice is once."""
        if not (self._free or self._under_way):
            return
        slots = (*self._free, *(slot for slot, _, _ in self._under_way))
        self._free.clear()
        self._under_way.clear()
        try:
            for stream in (*(slot.stream for slot in slots), self._compute_stream):
                self.driver.synchronize(stream)
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

    def _put_frame(self, slot: FrameSlot, letterbox: Letterbox) -> None:
        """The frame that the slot has taken: all of its work up to the download of its results, on the streams."""
        if not slot.alone:
            slot.upload(letterbox.frame_hw[0] * letterbox.frame_hw[1] * CHANNELS)
        repeats = slot.repeats((letterbox.frame_hw,))
        if not (self._may_capture() and self._launched(slot, letterbox, capture=repeats)):
            self._put_work(slot, letterbox)
            self._warm = True  # what a network allocates or compiles at its first run, it has by now
        if not slot.alone:
            slot.download_results()

    def _put_work(self, slot: FrameSlot, letterbox: Letterbox) -> None:
        """What a graph holds."""
        spec, stages, stream, chosen = self.spec, self._stages, self._compute_stream, self.selection
        height, width = letterbox.frame_hw
        self._mark("start")
        if slot.alone:
            slot.upload(height * width * CHANNELS)
        frames = Frames(slot.frame.pointer, width * CHANNELS, height * width * CHANNELS)
        stages.letterbox(frames, letterbox, self._images, stream)
        self._mark("letterboxed")
        self.network.enqueue(self._images, self._output_pointers, stream)
        self._mark("computed")
        if spec.graph_level == "heads":
            heads = HeadPointers(**self._output_pointers)
            stages.top_peaks(heads.heatmap, self._peaks, stream, least_score=chosen.score_threshold)
            peaks = stages.gather_heads(heads, self._peaks, stream)
        else:
            peaks = PeakPointers(**self._output_pointers)
        stages.select(
            peaks, letterbox, slot.block, stream,
            allowed=self._allowed, score_threshold=chosen.score_threshold, max_detections=chosen.max_detections,
        )  # fmt: skip
        stages.masks(
            peaks, letterbox, slot.block, Arena(slot.arena.pointer, slot.arena.nbytes), self._probabilities, stream,
            mask_threshold=chosen.mask_threshold,
        )  # fmt: skip
        self._mark("end")
        if slot.alone:
            slot.download_results()

    def _may_capture(self) -> bool:
        if self._refusal is None and self._warm and not self.graph.startswith("one"):
            why = self.network.capture_refusal(self._compute_stream)
            if why is not None:
                self._refuse(why)
        return self._refusal is None and self._warm

    def _launched(self, slot: FrameSlot, letterbox: Letterbox, *, capture: bool) -> bool:
        """Launches the frame's graph, captured now where `capture` allows it; False when there is none."""
        key = (letterbox.frame_hw,)
        if not slot.has_graph(key):
            graph = self._capture(slot, letterbox) if capture else None
            if graph is None:
                return False
            slot.keep_graph(graph, key)
        self.driver.launch_graph(slot.graph, self._compute_stream)
        return True

    def _capture(self, slot: FrameSlot, letterbox: Letterbox) -> int | None:
        """An executable graph of the frame's work; None, with the reason in `graph`, when that cannot be."""
        self.driver.begin_capture(self._compute_stream)
        try:
            try:
                self._put_work(slot, letterbox)
            except BaseException:
                with suppress(DriverError):  # takes the stream out of capture; what it says now is known already
                    self.driver.destroy_graph(self.driver.end_capture(self._compute_stream))
                raise
            graph = self.driver.end_capture(self._compute_stream)
        except CenterMaskError as error:
            self._refuse(f"the capture failed: {error}")
            return None
        self.graph = "one CUDA graph a frame"
        return graph

    def _refuse(self, why: str) -> None:
        self._refusal = why
        self.graph = f"no CUDA graph: {why}"

    def _instances(self, slot: FrameSlot, bits: NDArray[np.uint8], letterbox: Letterbox) -> Instances:
        """What select and masks wrote, as copies: the slot's own arrays are overwritten by its next frame."""
        found = int(slot.results("found")[0])
        rects = slot.results("rects")[0, :found].copy()
        starts = slot.results("offsets")[0, :found].astype(np.int64)
        heights, row_bytes = rects[:, 3] - rects[:, 1], (rects[:, 2] - rects[:, 0] + 7) // 8
        packed = tuple(
            bits[start : start + height * width].reshape(height, width)
            for start, height, width in zip(starts.tolist(), heights.tolist(), row_bytes.tolist(), strict=True)
        )
        return Instances(
            letterbox.frame_hw,
            slot.results("boxes")[0, :found].copy(),
            slot.results("scores")[0, :found].copy(),
            slot.results("labels")[0, :found].copy(),
            BoxMasks(letterbox.frame_hw, rects, packed),
            self.spec.class_names,
            self.spec.category_ids,
        )

    def _mark(self, moment: str) -> None:
        if self._events:
            self.driver.record(self._events[moment], self._compute_stream)

    def _measured(self, start: float) -> StageTimes:
        """The GPU's times of the stages, and the wall clock of the whole. The copies count where they were put."""
        moments = [self._events[moment] for moment in MOMENTS]
        preprocess, network, postprocess = (self.driver.elapsed_ms(a, b) for a, b in pairwise(moments))
        return StageTimes(preprocess, network, postprocess, (time.perf_counter() - start) * 1e3)


def _allowed_classes(spec: ModelSpec, classes: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """uint8 [C]: 1 for the classes to keep."""
    allowed = np.full(spec.num_classes, classes is None, np.uint8)
    allowed[list(classes or ())] = 1
    return allowed

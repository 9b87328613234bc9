# SPDX-License-Identifier: Apache-2.0
"""What is done to frames on the device, and what is read of them there: the steps that GpuPipeline keeps in order.

upload -> letterbox -> network (-> peaks, heads at the peaks) -> select -> masks (-> run lengths) -> download
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.cuda import layouts
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.frame_slot import FrameSlot
from centermask_runtime.cuda.workspace import Workspace
from centermask_runtime.geometry import Letterbox
from centermask_runtime.instances import Instances
from centermask_runtime.networks.gpu_network import GpuNetwork
from centermask_runtime.pipeline.frame import AnyFrame, StageTimes
from centermask_runtime.pipeline.graphs import FrameGraphs, GraphKey
from centermask_runtime.reference import overlay
from centermask_runtime.reference.nv12 import Nv12Frame, YuvMatrix
from centermask_runtime.selection import Selection

MOMENTS = ("start", "letterboxed", "computed", "end")  # events of a timed frame

Found = tuple[Instances, NDArray[np.uint8] | None]  # of a frame, and its picture where one was asked for


@dataclass(frozen=True, eq=False)
class Job:
    """Frames of one kind that lie in a slot, and what is wanted of them."""

    slot: FrameSlot
    letterbox: Letterbox
    matrix: YuvMatrix | None  # of NV12 frames; None for BGR
    style: overlay.DrawStyle | None  # of their pictures; None for results alone


class GpuWork(Closing):
    """Owns kernels, memory, graphs and events of one model, not its network. For one thread at a time."""

    def __init__(
        self,
        driver: Driver,
        network: GpuNetwork,
        selection: Selection,
        stream: int,
        *,
        graphs: bool,
        stage_times: bool,
        run_lengths: bool,
        kernels: bytes | None,
    ) -> None:
        """stream: where everything is computed. The others are those of GpuPipeline."""
        self._driver, self._network, self._selection, self._stream = driver, network, selection, stream
        self._run_lengths = run_lengths
        with ExitStack() as made:
            self._space = made.enter_context(Workspace(driver, network.spec, kernels, network.batch))
            self._space.prepare(selection.classes)
            self._events = {moment: driver.create_event() for moment in (MOMENTS if stage_times else ())}
            for event in self._events.values():
                made.callback(driver.destroy_event, event)
            refusal = _no_graphs(driver, stream, graphs, stage_times)
            self.graphs = made.enter_context(FrameGraphs(driver, stream, network.capture_refusal, refusal))
            self._resources = made.pop_all()

    def close(self) -> None:
        """When nothing is under way."""
        self._resources.close()

    def new_slot(self) -> FrameSlot:
        """For frames of this model. The caller closes it."""
        results = layouts.results_layout(self._network.spec, self._network.batch)
        return FrameSlot(self._driver, results, self._stream, self._network.batch, with_runs=self._run_lengths)

    def take(
        self,
        slot: FrameSlot,
        frames: Sequence[AnyFrame],
        letterbox: Letterbox,
        style: overlay.DrawStyle | None,
        *,
        alone: bool,
    ) -> Job:
        """Copies frames of one kind into the slot, and puts their work on the streams."""
        pixels = [frame.pixels if isinstance(frame, Nv12Frame) else frame for frame in frames]
        slot.take(pixels, layouts.largest_arena(self._network.spec, letterbox.frame_hw), alone=alone)
        job = Job(slot, letterbox, frames[0].matrix if isinstance(frames[0], Nv12Frame) else None, style)
        self._put(job)
        return job

    def read(self, job: Job) -> list[Found]:
        """What was found in each frame of the job; waits for it."""
        slot, frame_hw = job.slot, job.letterbox.frame_hw
        self._driver.synchronize(slot.stream)
        while slot.has_grown():  # more than ever before: the frames' pixels are still in their slot
            self._put(job)
            self._driver.synchronize(slot.stream)
        instances = [results.instances(frame_hw, self._network.spec) for results in slot.download()]
        if job.style is None:
            return [(found, None) for found in instances]
        self._space.stages.draw(
            slot.bgr(), frame_hw, slot.block, slot.arena, self._space.palette, slot.stream,
            masks=job.style.masks, boxes=job.style.boxes,
        )  # fmt: skip
        pictures = slot.download_frames()
        for found, picture in zip(instances, pictures, strict=True):
            overlay.write_labels(picture, found, job.style)
        return list(zip(instances, pictures, strict=True))

    def stage_times(self, start: float) -> StageTimes | None:
        """Of the job that was read last: the GPU's, and the wall clock since `start`; None where they are not taken.

        Copies count in the stage next to which they were put.
        """
        if not self._events:
            return None
        moments = [self._events[moment] for moment in MOMENTS]
        preprocess, network, postprocess = (self._driver.elapsed_ms(a, b) for a, b in pairwise(moments))
        return StageTimes(preprocess, network, postprocess, (time.perf_counter() - start) * 1e3)

    def _put(self, job: Job) -> None:
        """All of a job's work up to the download of its results, on the streams."""
        slot = job.slot
        if not slot.alone:
            slot.upload()
        key = GraphKey(job.letterbox.frame_hw, job.matrix, slot.count, slot.alone, slot.moves)
        self.graphs.run(slot, key, lambda: self._put_computation(job))
        if not slot.alone:
            slot.download_results()

    def _put_computation(self, job: Job) -> None:
        """What a graph holds."""
        slot, letterbox, stream, chosen = job.slot, job.letterbox, self._stream, self._selection
        space, stages, count = self._space, self._space.stages, job.slot.count
        self._mark("start")
        if slot.alone:
            slot.upload()
        if job.matrix is None:
            stages.letterbox(slot.bgr(), letterbox, space.images, stream)
        else:
            stages.letterbox_nv12(slot.nv12(), letterbox, space.images, stream, job.matrix)
        self._mark("letterboxed")
        self._network.enqueue(space.images, space.outputs_by_name, stream)
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
            self._driver.record(self._events[moment], self._stream)


def _no_graphs(driver: Driver, stream: int, asked: bool, stage_times: bool) -> str | None:
    """Why nothing is to be captured; None where the network is to be asked."""
    if not asked:
        return "none was asked for"
    if stage_times:
        return "times inside a graph cannot be taken, and stage times were asked for"
    if stream == 0:
        return "CUDA captures no work on the default stream"
    return None if driver.supports_graphs else f"{driver.name} has none"

# SPDX-License-Identifier: Apache-2.0
"""What frames under way need for themselves: pixels, results, masks and run lengths, on host and device.

A slot holds the frames of one call of the network. Several slots share one compute stream. Frames that are alone are
copied on that stream, too; others on a stream of the slot's own, where events make compute wait for the upload and the
download wait for compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.cuda.buffers import Arena, Frames, Layout, Nv12Frames
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.memory import DeviceBuffer, PinnedBuffer
from centermask_runtime.cuda.results import Results

FIRST_ARENA_PART = 8  # masks get this part of what K masks of the whole frame need, and more when a frame asks for it
GROWTH = 1.5
RUN_BYTES = 4  # of one run length


class FrameSlot(Closing):
    """Owns its memory, events and stream."""

    def __init__(self, driver: Driver, results: Layout, compute: int, batch: int, *, with_runs: bool) -> None:
        """results: as results_layout has it for the batch. with_runs: room for run lengths too."""
        self._driver, self._layout, self._compute, self._batch = driver, results, compute, batch
        self._with_runs = with_runs
        self.moves = 0  # how often memory has moved: what was captured before is void
        self.count = 0  # frames in it
        self.alone = True  # they are copied on the compute stream
        self._shape: tuple[int, ...] = (0,)
        self._largest_arena = 0
        with ExitStack() as made:
            self.own_stream = driver.create_stream()
            made.callback(driver.destroy_stream, self.own_stream)
            self._uploaded, self._computed = driver.create_event(), driver.create_event()
            made.callback(driver.destroy_event, self._uploaded)
            made.callback(driver.destroy_event, self._computed)
            self._frames, self._arena, self._runs, self._results = (DeviceBuffer(driver) for _ in range(4))
            self._host_frames, self._host_masks, self._host_runs, self._host_results = (
                PinnedBuffer(driver) for _ in range(4)
            )
            for buffer in (self._frames, self._arena, self._runs, self._results):
                made.callback(buffer.close)
            for pinned in (self._host_frames, self._host_masks, self._host_runs, self._host_results):
                made.callback(pinned.close)
            self._results.reserve(results.nbytes)
            self._host_results.reserve(results.nbytes)
            self._resources = made.pop_all()
        self.block = results.at(self._results.pointer)

    def close(self) -> None:
        """When nothing is under way."""
        self._resources.close()

    @property
    def stream(self) -> int:
        """The one that its frames are copied on."""
        return self._compute if self.alone else self.own_stream

    @property
    def arena(self) -> Arena:
        return Arena(self._arena.pointer, self._arena.nbytes // self._batch)

    @property
    def runs(self) -> Arena:
        return Arena(self._runs.pointer, self._runs.nbytes // RUN_BYTES // self._batch)

    def take(self, frames: Sequence[NDArray[np.uint8]], largest_arena: int, *, alone: bool) -> None:
        """Copies frames of one shape into page-locked memory, whatever their strides. Memory only grows.

        largest_arena: bytes of masks that a frame needs at most. alone: copy them on the compute stream.
        """
        self.count, self.alone, self._largest_arena = len(frames), alone, largest_arena
        self._shape = frames[0].shape
        self._reserve(self._frames, self._host_frames, self._batch * frames[0].size)
        first_arena = -(-largest_arena // FIRST_ARENA_PART)
        self._reserve_masks(first_arena)
        self._reserve_runs(first_arena // RUN_BYTES)
        for place, frame in zip(self._pixels(), frames, strict=True):
            np.copyto(place, frame)

    def bgr(self) -> Frames:
        """The frames uint8 [H, W, 3] on the device."""
        height, width, channels = self._shape
        return Frames(self._frames.pointer, width * channels, height * width * channels, self.count)

    def nv12(self) -> Nv12Frames:
        """The frames uint8 [H * 3 / 2, W] on the device."""
        rows, width = self._shape
        planes = self._frames.pointer, self._frames.pointer + rows // 3 * 2 * width
        luma, chroma = (Frames(plane, width, rows * width, self.count) for plane in planes)
        return Nv12Frames(luma, chroma)

    def upload(self) -> None:
        """The frames that were taken; the compute stream waits for them."""
        self._driver.upload(self._frames.pointer, self._pixels().reshape(-1), self.stream)
        if not self.alone:
            self._driver.record(self._uploaded, self.stream)
            self._driver.wait(self._compute, self._uploaded)

    def download_results(self) -> None:
        """What is in the block after what is on the compute stream now."""
        if not self.alone:
            self._driver.record(self._computed, self._compute)
            self._driver.wait(self.stream, self._computed)
        self._driver.download(self._host_results.array[: self._layout.nbytes], self.block.pointer, self.stream)

    def has_grown(self) -> bool:
        """Whether the results ask for more masks or run lengths than fitted, and there is room for them now.

        The work must then be put on the stream again; the pixels are still in the slot.
        """
        moves = self.moves
        host = self._host_results.array
        most_masks = int(self._layout.view(host, "mask_bytes")[: self.count].max())
        most_runs = int(self._layout.view(host, "run_totals")[: self.count].max())
        if most_masks > self.arena.capacity:
            self._reserve_masks(max(most_masks, min(round(most_masks * GROWTH), self._largest_arena)))
        elif self._with_runs and most_runs > self.runs.capacity:  # counted in masks that were all written
            self._reserve_runs(round(most_runs * GROWTH))
        return self.moves != moves

    def download(self) -> list[Results]:
        """The results of each frame; they must be in host memory. Waits. The next frames overwrite all of it."""
        host = {name: self._layout.view(self._host_results.array, name) for name in self._layout.fields}
        masks = self._parts(self._arena, self._host_masks, self.arena.capacity, host["mask_bytes"])
        runs: Sequence[NDArray[np.uint32] | None] = [None] * self.count
        if self._with_runs:
            used = host["run_totals"] * np.uint64(RUN_BYTES)
            parts = self._parts(self._runs, self._host_runs, self.runs.capacity * RUN_BYTES, used)
            runs = [part.view(np.uint32) for part in parts]
        self._driver.synchronize(self.stream)
        return [
            Results({name: array[image] for name, array in host.items()}, masks[image], runs[image])
            for image in range(self.count)
        ]

    def download_frames(self) -> NDArray[np.uint8]:
        """The frames as they are on the device now, uint8 [N, H, W, 3], in an array of their own. Waits."""
        self._driver.download(self._pixels().reshape(-1), self._frames.pointer, self.stream)
        self._driver.synchronize(self.stream)
        return self._pixels().copy()

    def _pixels(self) -> NDArray[np.uint8]:
        """Of the frames taken, on the host."""
        shape = self.count, *self._shape
        return self._host_frames.array[: int(np.prod(shape))].reshape(shape)

    def _parts(
        self, buffer: DeviceBuffer, host: PinnedBuffer, capacity: int, used: NDArray[np.uint64]
    ) -> list[NDArray[np.uint8]]:
        """Puts the download of each frame's part of a buffer on the stream; only the bytes that are used."""
        parts = []
        for image, nbytes in enumerate(used[: self.count].tolist()):
            begin = image * capacity
            parts.append(host.array[begin : begin + nbytes])
            if nbytes:
                self._driver.download(parts[-1], buffer.pointer + begin, self.stream)
        return parts

    def _reserve_masks(self, capacity: int) -> None:
        self._reserve(self._arena, self._host_masks, self._batch * capacity)

    def _reserve_runs(self, capacity: int) -> None:
        if self._with_runs:
            self._reserve(self._runs, self._host_runs, self._batch * capacity * RUN_BYTES)

    def _reserve(self, device: DeviceBuffer, host: PinnedBuffer, nbytes: int) -> None:
        moved = device.reserve(nbytes), host.reserve(nbytes)
        self.moves += any(moved)

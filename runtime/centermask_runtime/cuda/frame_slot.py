# SPDX-License-Identifier: Apache-2.0
"""What a frame under way needs for itself: its pixels, results and masks, on host and device, and a stream to copy on.

Several slots share one compute stream. A slot that is alone copies on that stream too; otherwise each has its own, and
events make compute wait for the upload and the download wait for compute.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.cuda.buffers import Layout
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.memory import DeviceBuffer, PinnedBuffer

FIRST_ARENA_PART = 8  # masks get this part of what K masks of the whole frame need, and more when a frame asks for it
GROWTH = 1.5


class FrameSlot:
    """Owns its memory, events, graph and, unless it is alone, its stream."""

    def __init__(self, driver: Driver, results: Layout, compute: int, *, alone: bool) -> None:
        self._driver, self._layout, self._compute = driver, results, compute
        self.alone = alone
        self.graph = 0
        self._graph_key: tuple[object, ...] | None = None
        self._last_key: tuple[object, ...] | None = None
        self._largest_arena = 0
        with ExitStack() as made:
            self.stream = compute if alone else driver.create_stream()
            if not alone:
                made.callback(driver.destroy_stream, self.stream)
            self._uploaded, self._computed = driver.create_event(), driver.create_event()
            made.callback(driver.destroy_event, self._uploaded)
            made.callback(driver.destroy_event, self._computed)
            self.frame, self.arena = DeviceBuffer(driver), DeviceBuffer(driver)
            self._host_frame, self._host_masks = PinnedBuffer(driver), PinnedBuffer(driver)
            self._device_results, self._host_results = DeviceBuffer(driver), PinnedBuffer(driver)
            for buffer in (
                self.frame, self.arena, self._host_frame, self._host_masks, self._device_results, self._host_results,
            ):  # fmt: skip
                made.callback(buffer.close)
            made.callback(self.drop_graph)
            self._device_results.reserve(results.nbytes)
            self._host_results.reserve(results.nbytes)
            self._resources = made.pop_all()
        self.block = results.at(self._device_results.pointer)

    def close(self) -> None:
        """When nothing is under way."""
        self._resources.close()

    def fit(self, frame_bytes: int, largest_arena: int) -> None:
        """Memory for frames of a size. Only grows."""
        self.frame.reserve(frame_bytes)
        self._host_frame.reserve(frame_bytes)
        self._largest_arena = largest_arena
        self._reserve_arena(-(-largest_arena // FIRST_ARENA_PART))

    def grow_arena(self, needed: int) -> None:
        """For masks of `needed` bytes and somewhat more."""
        self._reserve_arena(max(needed, min(round(needed * GROWTH), self._largest_arena)))

    def take(self, frame: NDArray[np.uint8]) -> None:
        """Copies the pixels into page-locked memory, whatever the strides of the frame are."""
        np.copyto(self._host_frame.array[: frame.size].reshape(frame.shape), frame)

    def upload(self, frame_bytes: int) -> None:
        """On this slot's stream; the compute stream waits for it."""
        self._driver.upload(self.frame.pointer, self._host_frame.array[:frame_bytes], self.stream)
        if not self.alone:
            self._driver.record(self._uploaded, self.stream)
            self._driver.wait(self._compute, self._uploaded)

    def download_results(self) -> None:
        """On this slot's stream, after what is on the compute stream now."""
        if not self.alone:
            self._driver.record(self._computed, self._compute)
            self._driver.wait(self.stream, self._computed)
        self._driver.download(self._host_results.array[: self._layout.nbytes], self.block.pointer, self.stream)

    def results(self, name: str) -> NDArray[Any]:
        """One array of the results that were downloaded last; the next download overwrites it."""
        return self._layout.view(self._host_results.array, name)

    def download_masks(self, nbytes: int) -> NDArray[np.uint8]:
        """The first bytes of the arena, in an array of their own. Waits."""
        if nbytes:
            self._driver.download(self._host_masks.array[:nbytes], self.arena.pointer, self.stream)
            self._driver.synchronize(self.stream)
        return self._host_masks.array[:nbytes].copy()

    def repeats(self, key: tuple[object, ...]) -> bool:
        """Whether this frame's `key` and memory are those of the frame before it in this slot; remembers them."""
        last, self._last_key = self._last_key, self._whole_key(key)
        return last == self._last_key

    def has_graph(self, key: tuple[object, ...]) -> bool:
        """Whether what was captured still fits: same `key`, same memory."""
        return bool(self.graph) and self._graph_key == self._whole_key(key)

    def keep_graph(self, graph: int, key: tuple[object, ...]) -> None:
        self.drop_graph()
        self.graph, self._graph_key = graph, self._whole_key(key)

    def drop_graph(self) -> None:
        if self.graph:
            self._driver.destroy_graph(self.graph)
            self.graph = 0

    def _whole_key(self, key: tuple[object, ...]) -> tuple[object, ...]:
        return (*key, self.frame.pointer, self.arena.pointer, self.arena.nbytes, self._host_frame.array.ctypes.data)

    def _reserve_arena(self, nbytes: int) -> None:
        self.arena.reserve(nbytes)
        self._host_masks.reserve(nbytes)

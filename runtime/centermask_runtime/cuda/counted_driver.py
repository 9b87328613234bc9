# SPDX-License-Identifier: Apache-2.0
"""A driver that knows what it has handed out and launched: a leak is a number, and closing frees what was forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.cuda.driver import Argument, Dim3, Driver

KINDS = ("memory", "pinned", "module", "stream", "event", "graph")


class CountedDriver:
    """Another Driver, counted.

    `made` counts all that was ever handed out of each kind, `live` what is out now. `launches` counts calls that put
    kernels or a graph on a stream, or into a graph that is captured.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.name = driver.name
        self.compute_capability = driver.compute_capability
        self.made: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()  # "kernel" and "graph"
        self._out: dict[str, dict[int, Any]] = {kind: {} for kind in KINDS}
        self._bytes: dict[str, dict[int, int]] = {"memory": {}, "pinned": {}}
        self.upload, self.download, self.fill = driver.upload, driver.download, driver.fill
        self.function = driver.function
        self.synchronize, self.record, self.wait = driver.synchronize, driver.record, driver.wait
        self.elapsed_ms, self.begin_capture = driver.elapsed_ms, driver.begin_capture

    @property
    def supports_graphs(self) -> bool:
        return self.driver.supports_graphs

    @property
    def live(self) -> dict[str, int]:
        """How many of each kind are handed out."""
        return {kind: len(out) for kind, out in self._out.items()}

    @property
    def live_bytes(self) -> dict[str, int]:
        """Bytes of device memory and of pinned host memory that are handed out."""
        return {kind: sum(sizes.values()) for kind, sizes in self._bytes.items()}

    def allocate(self, nbytes: int) -> int:
        pointer = self._add("memory", self.driver.allocate(nbytes))
        self._bytes["memory"][pointer] = nbytes
        return pointer

    def free(self, pointer: int) -> None:
        self._drop("memory", pointer)
        del self._bytes["memory"][pointer]
        self.driver.free(pointer)

    def allocate_pinned(self, nbytes: int) -> NDArray[np.uint8]:
        array = self.driver.allocate_pinned(nbytes)
        address = self._add("pinned", array.ctypes.data, array)
        self._bytes["pinned"][address] = nbytes
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        self._drop("pinned", array.ctypes.data)
        del self._bytes["pinned"][array.ctypes.data]
        self.driver.free_pinned(array)

    def load_module(self, image: bytes) -> int:
        return self._add("module", self.driver.load_module(image))

    def unload_module(self, module: int) -> None:
        self._drop("module", module)
        self.driver.unload_module(module)

    def create_stream(self) -> int:
        return self._add("stream", self.driver.create_stream())

    def destroy_stream(self, stream: int) -> None:
        self._drop("stream", stream)
        self.driver.destroy_stream(stream)

    def create_event(self) -> int:
        return self._add("event", self.driver.create_event())

    def destroy_event(self, event: int) -> None:
        self._drop("event", event)
        self.driver.destroy_event(event)

    def launch(
        self, function: int, grid: Dim3, block: Dim3, shared_bytes: int, stream: int, arguments: Mapping[str, Argument]
    ) -> None:
        self.launches["kernel"] += 1
        self.driver.launch(function, grid, block, shared_bytes, stream, arguments)

    def launch_graph(self, graph: int, stream: int) -> None:
        self.launches["graph"] += 1
        self.driver.launch_graph(graph, stream)

    def end_capture(self, stream: int) -> int:
        return self._add("graph", self.driver.end_capture(stream))

    def destroy_graph(self, graph: int) -> None:
        self._drop("graph", graph)
        self.driver.destroy_graph(graph)

    def close(self) -> None:
        """Frees what is still out, last kinds first, then closes the driver."""
        frees: Sequence[tuple[str, Callable[[Any], None]]] = (
            ("graph", self.destroy_graph),
            ("event", self.destroy_event),
            ("stream", self.destroy_stream),
            ("module", self.unload_module),
            ("pinned", self.free_pinned),
            ("memory", self.free),
        )
        for kind, free in frees:
            for held in list(self._out[kind].values()):
                free(held)
        self.driver.close()

    def _add(self, kind: str, handle: int, held: Any = None) -> int:
        assert handle not in self._out[kind], (kind, handle)
        self._out[kind][handle] = handle if held is None else held
        self.made[kind] += 1
        return handle

    def _drop(self, kind: str, handle: int) -> None:
        assert handle in self._out[kind], f"{kind} {handle} is given back, but it is not handed out"
        del self._out[kind][handle]

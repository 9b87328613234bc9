# SPDX-License-Identifier: Apache-2.0
"""The driver layer: the few calls that the GPU pipeline makes, behind one protocol.

Pointers, streams, events, modules, functions and graphs are the driver's own handles as ints; 0 is the default stream.
A call that fails raises DriverError with the name of the driver function and its status. Copies between host and device
are asynchronous on the stream given; the host array must live, unchanged, until the stream is synchronised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import CenterMaskError

Dim3 = tuple[int, int, int]
# A kernel's argument: a NumPy scalar of the parameter's exact type; a device pointer is np.uint64.
Argument = np.generic


class DriverError(CenterMaskError):
    """The CUDA driver is missing or refused a call: which function, and what it said."""


class Driver(Protocol):
    """One device. Made without a context by importing; the context is the device's primary one, shared with torch."""

    name: str  # "cuda-bindings 13.5 on NVIDIA H100", for people
    compute_capability: tuple[int, int]

    def allocate(self, nbytes: int) -> int: ...

    def free(self, pointer: int) -> None: ...

    def allocate_pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Page-locked host memory as a flat array; give it back with free_pinned."""
        ...

    def free_pinned(self, array: NDArray[np.uint8]) -> None: ...

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        """The whole C-contiguous array to the device."""
        ...

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None: ...

    def fill(self, pointer: int, value: int, nbytes: int, stream: int) -> None:
        """Each byte becomes value."""
        ...

    def load_module(self, image: bytes) -> int:
        """A fatbin, cubin or PTX."""
        ...

    def unload_module(self, module: int) -> None: ...

    def function(self, module: int, name: str) -> int: ...

    def launch(
        self, function: int, grid: Dim3, block: Dim3, shared_bytes: int, stream: int, arguments: Mapping[str, Argument]
    ) -> None:
        """arguments: by the names of the kernel's parameters and in their order, which is what the driver goes by.

        A grid with a zero side is no launch at all.
        """
        ...

    def create_stream(self) -> int: ...

    def destroy_stream(self, stream: int) -> None: ...

    def synchronize(self, stream: int) -> None: ...

    def create_event(self) -> int: ...

    def destroy_event(self, event: int) -> None: ...

    def record(self, event: int, stream: int) -> None: ...

    def wait(self, stream: int, event: int) -> None:
        """Work put on the stream from now on waits for the event."""
        ...

    def elapsed_ms(self, start: int, end: int) -> float: ...

    def begin_capture(self, stream: int) -> None: ...

    def end_capture(self, stream: int) -> int:
        """An executable graph of what was put on the stream since begin_capture."""
        ...

    def launch_graph(self, graph: int, stream: int) -> None: ...

    def destroy_graph(self, graph: int) -> None: ...

    @property
    def supports_graphs(self) -> bool: ...

    def close(self) -> None: ...

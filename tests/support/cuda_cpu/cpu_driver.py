# SPDX-License-Identifier: Apache-2.0
"""A Driver without a GPU: the kernels' CPU build on host memory, in the order that streams and events promise.

Work put on a stream runs when somebody waits for it, not before: a host array that is changed or read too early, or an
event that is not waited for, gives wrong results here as it may on a GPU. When something waits, the other streams are
run last, and only as far as events demand. A pointer is a host address and new memory is poison. Copies and pointers
given to kernels must lie in live allocations, arguments must have the parameters' names and types; DriverError tells.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.cuda.driver import Argument, Dim3, DriverError

POISON = 0xCD
SLOT = 8  # bytes of an argument, at most
POINTER = "P"

_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]


@dataclass
class _Event:
    """What was recorded last: on which stream, after how many operations of it."""

    stream: int | None = None
    position: int = 0
    time: float | None = None  # seconds; None until that point has run
    recording: int = 0  # counts calls of record
    capture: _Capture | None = None  # that it was recorded in


@dataclass
class _Stream:
    operations: deque[tuple[Callable[[], None], tuple[int, int] | None]] = field(default_factory=deque)
    queued: int = 0  # operations ever put on it
    done: int = 0


@dataclass
class _Capture:
    origin: int
    members: set[int]
    operations: list[Callable[[], None]] = field(default_factory=list)
    unjoined: set[int] = field(default_factory=set)


class CpuDriver:
    """Executes what is put on its streams on the CPU. load_module takes the bytes of a library made by build.py.

    reversed_threads: threads run from the last to the first between barriers.
    """

    def __init__(self, *, reversed_threads: bool = False) -> None:
        self.reversed_threads = reversed_threads
        self.name = "kernels compiled for the CPU"
        self.compute_capability = (9, 0)
        self.allocated: dict[int, int] = {}  # live device memory: address -> bytes
        self.launches = 0  # kernels executed
        self._starts: list[int] = []  # of `allocated`, sorted
        self._pinned: dict[int, NDArray[np.uint8]] = {}
        self._modules: dict[int, ctypes.CDLL] = {}
        self._functions: dict[int, tuple[ctypes.CDLL, int, str, str, tuple[str, ...]]] = {}
        self._streams: dict[int, _Stream] = {0: _Stream()}
        self._events: dict[int, _Event] = {}
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._capture: _Capture | None = None
        self._handles = itertools.count(1)
        self._folder = tempfile.TemporaryDirectory(prefix="centermask-cpu-driver-")

    # Memory.

    def allocate(self, nbytes: int) -> int:
        self._not_captured("cuMemAlloc")
        if nbytes <= 0:
            raise DriverError(f"cuMemAlloc failed with CUDA_ERROR_INVALID_VALUE ({nbytes} bytes).")
        pointer = _libc.malloc(nbytes)
        assert pointer
        ctypes.memset(pointer, POISON, nbytes)
        self.allocated[pointer] = nbytes
        bisect.insort(self._starts, pointer)
        return int(pointer)

    def free(self, pointer: int) -> None:
        self._not_captured("cuMemFree")
        self._run_all()  # as cuMemFree waits for the device
        if pointer not in self.allocated:
            raise DriverError(f"cuMemFree failed with CUDA_ERROR_INVALID_VALUE (no allocation at {pointer:#x}).")
        del self.allocated[pointer]
        self._starts.remove(pointer)
        _libc.free(pointer)

    def allocate_pinned(self, nbytes: int) -> NDArray[np.uint8]:
        array = np.full(nbytes, POISON, np.uint8)
        self._pinned[array.ctypes.data] = array
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        self._run_all()
        if self._pinned.pop(array.ctypes.data, None) is None:
            raise DriverError("cuMemFreeHost failed with CUDA_ERROR_INVALID_VALUE.")

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        assert array.flags.c_contiguous, array.strides
        self._check_range("cuMemcpyHtoDAsync", pointer, array.nbytes)
        self._put(stream, lambda: ctypes.memmove(pointer, array.ctypes.data, array.nbytes))

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        assert array.flags.c_contiguous and array.flags.writeable, array.flags
        self._check_range("cuMemcpyDtoHAsync", pointer, array.nbytes)
        self._put(stream, lambda: ctypes.memmove(array.ctypes.data, pointer, array.nbytes))

    def fill(self, pointer: int, value: int, nbytes: int, stream: int) -> None:
        self._check_range("cuMemsetD8Async", pointer, nbytes)
        self._put(stream, lambda: ctypes.memset(pointer, value, nbytes))

    # Modules and launches.

    def load_module(self, image: bytes) -> int:
        handle = next(self._handles)
        path = Path(self._folder.name) / f"module{handle}.so"
        path.write_bytes(image)
        library = ctypes.CDLL(str(path))
        library.shim_error.restype = library.shim_parameters.restype = library.shim_names.restype = ctypes.c_char_p
        library.shim_launch.argtypes = [ctypes.c_int, *[ctypes.c_uint] * 7, ctypes.c_void_p]
        library.shim_reverse_threads(self.reversed_threads)
        self._modules[handle] = library
        return handle

    def unload_module(self, module: int) -> None:
        self._run_all()
        library = self._module(module)
        del self._modules[module]
        self._functions = {key: value for key, value in self._functions.items() if value[0] is not library}

    def function(self, module: int, name: str) -> int:
        library = self._module(module)
        index = int(library.shim_find(name.encode()))
        if index < 0:
            raise DriverError(f"cuModuleGetFunction failed with CUDA_ERROR_NOT_FOUND ({name}).")
        handle = next(self._handles)
        names = tuple(library.shim_names(index).decode().split())
        self._functions[handle] = library, index, name, library.shim_parameters(index).decode(), names
        return handle

    def launch(
        self, function: int, grid: Dim3, block: Dim3, shared_bytes: int, stream: int, arguments: Mapping[str, Argument]
    ) -> None:
        if 0 in grid:
            return
        library, index, name, parameters, names = self._functions[function]
        kinds = dict(zip(names, (np.dtype(np.uint64 if code == POINTER else code) for code in parameters), strict=True))
        given = {parameter: argument.dtype for parameter, argument in arguments.items()}
        if list(given.items()) != list(kinds.items()):
            raise DriverError(f"{name} takes {kinds} and was given {given}.")
        for code, argument in zip(parameters, arguments.values(), strict=True):
            if code == POINTER and argument:
                self._check_range(name, int(argument), 1)
        values = np.zeros((len(arguments), SLOT), np.uint8)  # copied now, as cuLaunchKernel does
        for row, argument in zip(values, arguments.values(), strict=True):
            row[: argument.nbytes] = np.frombuffer(argument.tobytes(), np.uint8)

        def execute() -> None:
            self.launches += 1
            addresses = values.ctypes.data + SLOT * np.arange(len(values), dtype=np.uint64)
            if library.shim_launch(index, *grid, *block, shared_bytes, addresses.ctypes.data):
                raise DriverError(f"{name} {grid} {block} failed: {library.shim_error().decode()}.")

        self._put(stream, execute)

    def host_function(self, function: Callable[[], object], stream: int) -> None:
        """Calls a function when the stream gets there, as cuLaunchHostFunc does; for networks that tests give."""
        self._put(stream, function)

    # Streams and events.

    def create_stream(self) -> int:
        handle = next(self._handles)
        self._streams[handle] = _Stream()
        return handle

    def destroy_stream(self, stream: int) -> None:
        self._run(stream)
        del self._streams[stream]

    def synchronize(self, stream: int) -> None:
        self._not_captured("cuStreamSynchronize", stream)
        self._run(stream)

    def create_event(self) -> int:
        handle = next(self._handles)
        self._events[handle] = _Event()
        return handle

    def destroy_event(self, event: int) -> None:
        del self._events[event]

    def record(self, event: int, stream: int) -> None:
        state = self._events[event]
        state.capture = self._capture if self._capturing(stream) else None
        if state.capture is not None:
            state.stream, state.time = stream, None
            return
        state.recording += 1
        recording = state.recording
        state.stream, state.position, state.time = stream, self._streams[stream].queued + 1, None

        def stamp() -> None:
            if state.recording == recording:
                state.time = time.perf_counter()

        self._put(stream, stamp)

    def wait(self, stream: int, event: int) -> None:
        state = self._events[event]
        if state.stream is None:
            return  # never recorded: nothing to wait for
        if state.capture is not None and state.capture is not self._capture:
            raise DriverError("cuStreamWaitEvent failed with CUDA_ERROR_INVALID_VALUE (an event of an ended capture).")
        if self._capture is not None and state.capture is not None:
            self._capture.members.add(stream)  # joins the capture, or comes back to it
            self._capture.unjoined.discard(state.stream)
            return
        self._put(stream, lambda: None, (state.stream, state.position))

    def elapsed_ms(self, start: int, end: int) -> float:
        times = self._events[start].time, self._events[end].time
        if times[0] is None or times[1] is None:
            raise DriverError("cuEventElapsedTime failed with CUDA_ERROR_NOT_READY.")
        return (times[1] - times[0]) * 1e3

    # Graphs: the operations in the order in which they were put, which is one that the events allow.

    def begin_capture(self, stream: int) -> None:
        if stream == 0 or self._capture is not None:
            raise DriverError("cuStreamBeginCapture failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.")
        self._capture = _Capture(stream, {stream})

    def end_capture(self, stream: int) -> int:
        capture, self._capture = self._capture, None
        if capture is None or capture.origin != stream:
            raise DriverError("cuStreamEndCapture failed with CUDA_ERROR_ILLEGAL_STATE.")
        if capture.unjoined:
            raise DriverError("cuStreamEndCapture failed with CUDA_ERROR_STREAM_CAPTURE_UNJOINED.")
        handle = next(self._handles)
        self._graphs[handle] = capture.operations
        return handle

    def launch_graph(self, graph: int, stream: int) -> None:
        operations = self._graphs[graph]

        def replay() -> None:
            for operation in operations:
                operation()

        self._put(stream, replay)

    def destroy_graph(self, graph: int) -> None:
        del self._graphs[graph]

    @property
    def supports_graphs(self) -> bool:
        return True

    def close(self) -> None:
        self._run_all()
        for pointer in list(self.allocated):
            self.free(pointer)
        self._modules.clear()
        self._folder.cleanup()

    # How it works.

    def _put(self, stream: int, operation: Callable[[], object], after: tuple[int, int] | None = None) -> None:
        """Queues or captures. after: a stream, and how many of its operations must be done first."""

        def run() -> None:
            operation()

        if self._capture is not None and stream in self._capture.members:
            if after is not None:
                raise DriverError("cuStreamWaitEvent failed with CUDA_ERROR_STREAM_CAPTURE_ISOLATION.")
            self._capture.operations.append(run)
            if stream != self._capture.origin:
                self._capture.unjoined.add(stream)
            return
        queue = self._streams[stream]
        queue.operations.append((run, after))
        queue.queued += 1

    def _run(self, stream: int, until: int | None = None) -> None:
        """Executes the stream's operations, all or until so many are done, and of other streams what events demand."""
        queue = self._streams.get(stream)
        while queue is not None and queue.operations and (until is None or queue.done < until):
            operation, after = queue.operations.popleft()
            if after is not None:
                self._run(*after)
            operation()
            queue.done += 1

    def _run_all(self) -> None:
        for stream in list(self._streams):
            self._run(stream)

    def _capturing(self, stream: int) -> bool:
        return self._capture is not None and stream in self._capture.members

    def _not_captured(self, function: str, stream: int | None = None) -> None:
        if self._capture is not None and (stream is None or stream in self._capture.members):
            raise DriverError(f"{function} failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.")

    def _check_range(self, function: str, pointer: int, nbytes: int) -> None:
        place = bisect.bisect_right(self._starts, pointer) - 1
        start = self._starts[place] if place >= 0 else 0
        if place < 0 or pointer + nbytes > start + self.allocated[start]:
            raise DriverError(f"{function} failed: {nbytes} bytes at {pointer:#x} are not in device memory.")

    def _module(self, module: int) -> ctypes.CDLL:
        if module not in self._modules:
            raise DriverError("cuModuleUnload failed with CUDA_ERROR_INVALID_HANDLE.")
        return self._modules[module]

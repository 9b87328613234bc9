# SPDX-License-Identifier: Apache-2.0
"""The driver layer on pycuda, for who has it. It has no CUDA graphs and takes no stream of another library.

pycuda hands out objects that free themselves when they are forgotten, so each is kept here under its handle until it is
given back. The context is the device's primary one, and current on the thread that made this object: use it there only.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.cuda.driver import Argument, Dim3, DriverError
from centermask_runtime.errors import first_line

NO_GRAPHS = "pycuda has no CUDA graphs: choose the driver provider cuda-bindings."


class PycudaDriver:
    """A Driver through pycuda. Raises DriverError without pycuda, a driver or the device."""

    supports_graphs = False

    def __init__(self, device: int = 0) -> None:
        try:
            import pycuda
            import pycuda.driver as cuda
        except ImportError as error:  # not installed, or libcuda is missing
            raise DriverError(
                f"The driver provider pycuda was asked for, but it cannot be loaded ({first_line(error)}): install "
                "pycuda on a machine with an NVIDIA driver, or choose cuda-bindings."
            ) from error
        self._cuda = cuda
        self._call("cuInit", cuda.init)
        count = int(self._call("cuDeviceGetCount", cuda.Device.count))
        if not 0 <= device < count:
            raise DriverError(f"CUDA device {device} was asked for, but this machine has {count}, counted from 0.")
        chosen = self._call("cuDeviceGet", cuda.Device, device)
        major, minor = chosen.compute_capability()
        self.compute_capability = int(major), int(minor)
        version = ".".join(map(str, pycuda.VERSION))
        self.name = f"pycuda {version} on {chosen.name()}"
        self._thread = threading.get_ident()
        self._context: Any = self._call("cuDevicePrimaryCtxRetain", chosen.retain_primary_context)
        self._context.push()
        self._memory: dict[int, Any] = {}
        self._modules: dict[int, Any] = {}
        self._functions: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}
        self._pinned: dict[int, NDArray[np.uint8]] = {}

    def allocate(self, nbytes: int) -> int:
        memory = self._call("cuMemAlloc", self._cuda.mem_alloc, nbytes)
        self._memory[int(memory)] = memory
        return int(memory)

    def free(self, pointer: int) -> None:
        self._call("cuMemFree", self._memory.pop(pointer).free)

    def allocate_pinned(self, nbytes: int) -> NDArray[np.uint8]:
        array: NDArray[np.uint8] = self._call("cuMemHostAlloc", self._cuda.pagelocked_empty, nbytes, np.uint8)
        self._pinned[array.ctypes.data] = array
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        kept: Any = self._pinned.pop(array.ctypes.data)
        self._call("cuMemFreeHost", kept.base.free)

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        assert array.flags.c_contiguous, array.strides
        self._call("cuMemcpyHtoDAsync", self._cuda.memcpy_htod_async, pointer, array, self._stream(stream))

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        assert array.flags.c_contiguous and array.flags.writeable, array.flags
        self._call("cuMemcpyDtoHAsync", self._cuda.memcpy_dtoh_async, array, pointer, self._stream(stream))

    def fill(self, pointer: int, value: int, nbytes: int, stream: int) -> None:
        self._call("cuMemsetD8Async", self._cuda.memset_d8_async, pointer, value, nbytes, self._stream(stream))

    def load_module(self, image: bytes) -> int:
        return _keep(self._modules, self._call("cuModuleLoadDataEx", self._cuda.module_from_buffer, image))

    def unload_module(self, module: int) -> None:
        # pycuda unloads a module when its last reference goes; its functions hold one each.
        gone = self._modules.pop(module)
        self._functions = {key: kept for key, kept in self._functions.items() if kept[0] is not gone}

    def function(self, module: int, name: str) -> int:
        found = self._call("cuModuleGetFunction", self._modules[module].get_function, name)
        return _keep(self._functions, (self._modules[module], found))

    def launch(
        self, function: int, grid: Dim3, block: Dim3, shared_bytes: int, stream: int, arguments: Mapping[str, Argument]
    ) -> None:
        if 0 in grid:
            return
        # Prepared with the exact types: pycuda's plain call may take an equal argument of another type from its cache.
        kernel = self._functions[function][1].prepare([argument.dtype for argument in arguments.values()])
        self._call(
            "cuLaunchKernel", kernel.prepared_async_call, grid, block, self._stream(stream), *arguments.values(),
            shared_size=shared_bytes,
        )  # fmt: skip

    def create_stream(self) -> int:
        stream = self._call("cuStreamCreate", self._cuda.Stream, 1)  # CU_STREAM_NON_BLOCKING
        self._streams[int(stream.handle)] = stream  # the driver's own, for TensorRT and ONNX Runtime take it too
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        del self._streams[stream]

    def synchronize(self, stream: int) -> None:
        found = self._stream(stream)
        self._call("cuStreamSynchronize", self._cuda.Context.synchronize if found is None else found.synchronize)

    def create_event(self) -> int:
        return _keep(self._events, self._call("cuEventCreate", self._cuda.Event))

    def destroy_event(self, event: int) -> None:
        del self._events[event]

    def record(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", self._events[event].record, self._stream(stream))

    def wait(self, stream: int, event: int) -> None:
        found = self._stream(stream)
        if found is not None:
            self._call("cuStreamWaitEvent", found.wait_for_event, self._events[event])
        else:
            self._call("cuEventSynchronize", self._events[event].synchronize)

    def elapsed_ms(self, start: int, end: int) -> float:
        return float(self._call("cuEventElapsedTime", self._events[end].time_since, self._events[start]))

    def begin_capture(self, stream: int) -> None:
        raise DriverError(NO_GRAPHS)

    def end_capture(self, stream: int) -> int:
        raise DriverError(NO_GRAPHS)

    def launch_graph(self, graph: int, stream: int) -> None:
        raise DriverError(NO_GRAPHS)

    def destroy_graph(self, graph: int) -> None:
        raise DriverError(NO_GRAPHS)

    def close(self) -> None:
        """Takes the context off this thread and gives it back. Twice is once."""
        if self._context is not None:
            for kept in (self._functions, self._modules, self._events, self._streams):
                kept.clear()
            self._context.pop()
            self._context = None  # pycuda releases the primary context with its object

    def _stream(self, stream: int) -> Any:
        if stream == 0:
            return None
        if stream not in self._streams:
            raise DriverError(
                "pycuda cannot work on a stream that another library made: choose the driver provider cuda-bindings."
            )
        return self._streams[stream]

    def _call(self, function: str, made: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """`function` is the driver function behind the pycuda call, for the error."""
        if getattr(self, "_thread", None) not in (None, threading.get_ident()):
            raise DriverError(
                f"{function} was called on another thread than the one that opened pycuda: open one driver a thread, "
                "or choose the driver provider cuda-bindings."
            )
        try:
            return made(*arguments, **options)
        except self._cuda.Error as error:
            raise DriverError(f"{function} failed with {first_line(error)}.") from error


def _keep(kept: dict[int, Any], handed_out: Any) -> int:
    """Under a number of our own, never 0: pycuda does not show the driver's handle for every kind."""
    handle = max(kept, default=0) + 1
    kept[handle] = handed_out
    return handle

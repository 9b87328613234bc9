# SPDX-License-Identifier: Apache-2.0
"""The driver layer on NVIDIA's cuda-bindings: binary wheels, CUDA graphs, streams of other libraries.

Nothing touches the driver before an object is made. Every call makes the device's primary context current first, which
costs about a microsecond and lets any thread use the object, next to torch or ONNX Runtime.
"""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping
from typing import Any

import cuda.bindings
import numpy as np
from cuda.bindings import driver as cuda_driver
from numpy.typing import NDArray

from centermask_runtime.cuda.driver import Argument, Dim3, DriverError
from centermask_runtime.errors import first_line

NAME_BYTES = 256
ARGUMENT_BYTES = 8  # the widest kernel argument: a pointer


class BindingsDriver:
    """A Driver through cuda-bindings. Raises DriverError without a driver or device."""

    supports_graphs = True

    def __init__(self, device: int = 0) -> None:
        _call("cuInit", 0)
        count = int(_call("cuDeviceGetCount"))
        if not 0 <= device < count:
            raise DriverError(f"CUDA device {device} was asked for, but this machine has {count}, counted from 0.")
        self._device = _call("cuDeviceGet", device)
        attributes = cuda_driver.CUdevice_attribute
        self.compute_capability = (
            int(_call("cuDeviceGetAttribute", attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, self._device)),
            int(_call("cuDeviceGetAttribute", attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, self._device)),
        )
        self.name = f"cuda-bindings {cuda.bindings.__version__} on {_device_name(self._device)}"
        self._context: Any = _call("cuDevicePrimaryCtxRetain", self._device)

    def allocate(self, nbytes: int) -> int:
        return int(self._do("cuMemAlloc", nbytes))

    def free(self, pointer: int) -> None:
        self._do("cuMemFree", pointer)

    def allocate_pinned(self, nbytes: int) -> NDArray[np.uint8]:
        address = int(self._do("cuMemHostAlloc", nbytes, 0))
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address))

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        self._do("cuMemFreeHost", array.ctypes.data)

    def upload(self, pointer: int, array: NDArray[Any], stream: int) -> None:
        assert array.flags.c_contiguous, array.strides
        self._do("cuMemcpyHtoDAsync", pointer, array.ctypes.data, array.nbytes, stream)

    def download(self, array: NDArray[Any], pointer: int, stream: int) -> None:
        assert array.flags.c_contiguous and array.flags.writeable, array.flags
        self._do("cuMemcpyDtoHAsync", array.ctypes.data, pointer, array.nbytes, stream)

    def fill(self, pointer: int, value: int, nbytes: int, stream: int) -> None:
        self._do("cuMemsetD8Async", pointer, value, nbytes, stream)

    def load_module(self, image: bytes) -> int:
        return int(self._do("cuModuleLoadData", image))

    def unload_module(self, module: int) -> None:
        self._do("cuModuleUnload", module)

    def function(self, module: int, name: str) -> int:
        return int(self._do("cuModuleGetFunction", module, name.encode()))

    def launch(
        self, function: int, grid: Dim3, block: Dim3, shared_bytes: int, stream: int, arguments: Mapping[str, Argument]
    ) -> None:
        if 0 in grid:
            return
        values, addresses = pack_arguments(arguments.values())
        self._do("cuLaunchKernel", function, *grid, *block, shared_bytes, stream, addresses.ctypes.data, 0)
        del values  # the driver has copied them by now

    def create_stream(self) -> int:
        return int(self._do("cuStreamCreate", cuda_driver.CUstream_flags.CU_STREAM_NON_BLOCKING.value))

    def destroy_stream(self, stream: int) -> None:
        self._do("cuStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        self._do("cuStreamSynchronize", stream)

    def create_event(self) -> int:
        return int(self._do("cuEventCreate", cuda_driver.CUevent_flags.CU_EVENT_DEFAULT.value))

    def destroy_event(self, event: int) -> None:
        self._do("cuEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._do("cuEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        self._do("cuStreamWaitEvent", stream, event, 0)

    def elapsed_ms(self, start: int, end: int) -> float:
        return float(self._do("cuEventElapsedTime", start, end))

    def begin_capture(self, stream: int) -> None:
        # Thread-local: what torch or another pipeline does in another thread cannot spoil the capture.
        self._do("cuStreamBeginCapture", stream, cuda_driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        recorded = self._do("cuStreamEndCapture", stream)
        try:
            return int(self._do("cuGraphInstantiate", recorded, 0))
        finally:
            self._do("cuGraphDestroy", recorded)

    def launch_graph(self, graph: int, stream: int) -> None:
        self._do("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._do("cuGraphExecDestroy", graph)

    def close(self) -> None:
        """Gives the primary context back; it lives on while torch or another object holds it. Twice is once."""
        if self._context is not None:
            self._context = None
            _call("cuDevicePrimaryCtxRelease", self._device)

    def _do(self, function: str, *arguments: Any) -> Any:
        assert self._context is not None, f"{function} after close"
        _call("cuCtxSetCurrent", self._context)
        return _call(function, *arguments)


def pack_arguments(arguments: Collection[Argument]) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """Values in one buffer, and the address of each: the void** of cuLaunchKernel. The buffer must outlive the call."""
    values = np.zeros((len(arguments), ARGUMENT_BYTES), np.uint8)
    for row, argument in zip(values, arguments, strict=True):
        assert isinstance(argument, np.generic) and argument.nbytes <= ARGUMENT_BYTES, (argument, type(argument))
        row[: argument.nbytes] = np.frombuffer(argument.tobytes(), np.uint8)
    addresses = np.uint64(values.ctypes.data) + np.arange(len(arguments), dtype=np.uint64) * np.uint64(ARGUMENT_BYTES)
    return values, addresses


def _device_name(device: Any) -> str:
    return bytes(_call("cuDeviceGetName", NAME_BYTES, device)).split(b"\0")[0].decode()


def _call(function: str, *arguments: Any) -> Any:
    """What the driver function gives; DriverError with its name and status text when it fails."""
    try:
        status, *results = getattr(cuda_driver, function)(*arguments)
    except RuntimeError as error:  # cuda-bindings looks for the library at the first call, and for each function
        if function == "cuInit":
            raise DriverError(
                "A GPU was asked for, but libcuda of the NVIDIA driver was not found: "
                "run on a machine with an NVIDIA GPU and its driver, or use the CPU."
            ) from error
        raise DriverError(
            f"{function} is not in this NVIDIA driver ({first_line(error)}): update the driver."
        ) from error
    if status != cuda_driver.CUresult.CUDA_SUCCESS:
        raise DriverError(f"{function} failed with {_status_text(status)}.")
    return results[0] if results else None


def _status_text(status: Any) -> str:
    texts = [getattr(cuda_driver, name)(status) for name in ("cuGetErrorName", "cuGetErrorString")]
    known = [text.decode() for result, text in texts if text]
    return " (".join(known) + ")" if len(known) == 2 else f"status {int(status)}"

# SPDX-License-Identifier: Apache-2.0
"""What of a GPU this machine has. Is there one? `gpus` is the answer everywhere but in PyTorch, which asks for itself.

The driver's library is asked directly, so that neither torch nor a CUDA package is needed, and no context is made.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

from centermask_runtime.cuda.compile import CompileError, Nvrtc, fatbin_version
from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.cuda.providers import installed_providers, open_driver
from centermask_runtime.packages import install_command

LIBRARIES = ("libcuda.so.1", "nvcuda.dll")  # on Linux, on Windows
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
NAME_BYTES = 256
CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Gpu:
    name: str
    compute_capability: tuple[int, int]

    @property
    def architecture(self) -> str:
        """As compilers and TensorRT's targets have it: "sm89"."""
        return "sm{}{}".format(*self.compute_capability)


def gpus() -> list[Gpu]:
    """The GPUs that the NVIDIA driver sees, in its order; none where there is no driver.

    >>> [gpu.name for gpu in gpus()]  # doctest: +SKIP
    ['NVIDIA H100 80GB HBM3']
    """
    driver = _library()
    count = ctypes.c_int(0)
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = [_described(driver, number) for number in range(count.value)]
    return [gpu for gpu in found if gpu is not None]


def _library() -> ctypes.CDLL | None:
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _described(driver: ctypes.CDLL, number: int) -> Gpu | None:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(NAME_BYTES)
    calls: tuple[Callable[[], int], ...] = (
        lambda: driver.cuDeviceGet(ctypes.byref(device), number),
        lambda: driver.cuDeviceGetName(name, len(name), device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device),
    )
    if any(call() != 0 for call in calls):
        return None
    return Gpu(name.value.decode(errors="replace"), (major.value, minor.value))


def gpu_facts() -> dict[str, str]:
    """GPUs, driver layer, where kernels come from, and what networks could run on a GPU.

    For `centermask checks` and reports: each fact is a sentence, never an exception.
    """
    return {
        "gpu": ", ".join(f"{number}: {gpu.name}, {gpu.architecture}" for number, gpu in enumerate(gpus())) or "none",
        "cuda_driver": _driver(),
        "cuda_kernels": _kernels(),
        "tensorrt": _package("tensorrt", "trt"),
        "tensorrt_rtx": _package("tensorrt-rtx", "trt-rtx"),
        "onnxruntime_cuda": _onnx_runtime(),
    }


def _driver() -> str:
    if not gpus():
        return f"no GPU to drive; installed: {', '.join(installed_providers()) or 'none'}"
    try:
        driver = open_driver()
    except DriverError as error:
        return f"none: {error}"
    try:
        return f"{driver.name}; installed: {', '.join(installed_providers())}"
    finally:
        driver.close()


def _kernels() -> str:
    try:
        nvcc = fatbin_version()
        return f"fatbin of nvcc {nvcc}" if nvcc else f"NVRTC {Nvrtc().version} compiles them at the first use"
    except CompileError as error:
        return f"none: {error}"


def _package(name: str, extra: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"not installed: {install_command(extra)}"


def _onnx_runtime() -> str:
    import onnxruntime  # here, because whoever asks for GPUs alone should not wait for it

    if CUDA_PROVIDER in onnxruntime.get_available_providers():
        return "offered; whether it starts is seen when a model is loaded"
    return "not in this onnxruntime: put onnxruntime-gpu in its place"

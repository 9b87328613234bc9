# SPDX-License-Identifier: Apache-2.0
"""What of a GPU this machine has, for `centermask checks` and reports: each fact is a sentence, never an exception."""

from __future__ import annotations

import importlib.metadata

import onnxruntime

from centermask_runtime.cuda.compile import CompileError, Nvrtc, fatbin_version
from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.cuda.providers import device_names, installed_providers, open_driver

CUDA_PROVIDER = "CUDAExecutionProvider"


def gpu_facts() -> dict[str, str]:
    """Driver and provider, devices, where kernels come from, and the networks that could run on a GPU."""
    return {
        "cuda_driver": _driver(),
        "cuda_devices": _devices(),
        "cuda_kernels": _kernels(),
        "tensorrt": _package("tensorrt", "trt"),
        "tensorrt_rtx": _package("tensorrt-rtx", "trt-rtx"),
        "onnxruntime_cuda": _onnx_runtime(),
    }


def _driver() -> str:
    try:
        driver = open_driver()
    except DriverError as error:
        return f"none: {error}"
    try:
        return f"{driver.name}, sm_{''.join(map(str, driver.compute_capability))}; installed: " + ", ".join(
            installed_providers()
        )
    finally:
        driver.close()


def _devices() -> str:
    try:
        names = device_names()
    except DriverError:
        return "none"
    return ", ".join(f"{number}: {name}" for number, name in enumerate(names)) or "none"


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
        return f"not installed: pip install 'centermask[{extra}]'"


def _onnx_runtime() -> str:
    if CUDA_PROVIDER in onnxruntime.get_available_providers():
        return "offered; whether it starts is seen when a model is loaded"
    return "not in this onnxruntime: put onnxruntime-gpu in its place"

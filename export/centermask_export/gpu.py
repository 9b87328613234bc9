# SPDX-License-Identifier: Apache-2.0
"""Is there a GPU to build on, and which? Asks the driver itself: neither torch nor a CUDA package is needed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass

CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
LIBRARIES = ("libcuda.so.1", "nvcuda.dll")


@dataclass(frozen=True)
class Gpu:
    name: str
    architecture: str  # "sm89"


def find_gpu(device: int = 0) -> Gpu | None:
    """The GPU of this number; None where there is no driver or no such GPU."""
    for library in LIBRARIES:
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            continue
        return _describe(driver, device)
    return None


def _describe(driver: ctypes.CDLL, device: int) -> Gpu | None:
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    calls: tuple[Callable[[], int], ...] = (
        lambda: driver.cuInit(0),
        lambda: driver.cuDeviceGet(ctypes.byref(handle), device),
        lambda: driver.cuDeviceGetName(name, len(name), handle),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, handle),
        lambda: driver.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, handle),
    )
    if any(call() != 0 for call in calls):
        return None
    return Gpu(name.value.decode(errors="replace"), f"sm{major.value}{minor.value}")

# SPDX-License-Identifier: Apache-2.0
"""Owners of device memory and of page-locked host memory: they grow when asked, and give back what they hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.cuda.driver import Driver


class DeviceBuffer:
    """Device memory. Growing loses the content and moves it: whoever captured the address must capture again."""

    def __init__(self, driver: Driver, nbytes: int = 0) -> None:
        self._driver = driver
        self.pointer = 0
        self.nbytes = 0
        self.reserve(nbytes)

    def reserve(self, nbytes: int) -> bool:
        """At least so many bytes; True when it has moved. Nothing on any stream may be using it then."""
        if nbytes <= self.nbytes:
            return False
        self.close()
        self.pointer = self._driver.allocate(nbytes)
        self.nbytes = nbytes
        return True

    def close(self) -> None:
        if self.nbytes:
            self._driver.free(self.pointer)
            self.pointer = self.nbytes = 0


class PinnedBuffer:
    """Page-locked host memory, which copies to and from the device can use while the host goes on."""

    def __init__(self, driver: Driver, nbytes: int = 0) -> None:
        self._driver = driver
        self.array: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.reserve(nbytes)

    def reserve(self, nbytes: int) -> bool:
        """At least so many bytes; True when it has moved, which loses the content. No copy may be under way then."""
        if nbytes <= self.array.size:
            return False
        self.close()
        self.array = self._driver.allocate_pinned(nbytes)
        return True

    def close(self) -> None:
        if self.array.size:
            self._driver.free_pinned(self.array)
            self.array = np.empty(0, np.uint8)

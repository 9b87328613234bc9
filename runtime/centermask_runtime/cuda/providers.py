# SPDX-License-Identifier: Apache-2.0
"""Which driver provider runs, on which device: one place that chooses, says what it chose, and why it cannot."""

from __future__ import annotations

from centermask_runtime.cuda.counted_driver import CountedDriver
from centermask_runtime.cuda.driver import Driver, DriverError
from centermask_runtime.errors import UsageError, did_you_mean
from centermask_runtime.packages import install_command, is_installed

AUTO = "auto"
PYCUDA = "pycuda"
CUDA_BINDINGS = "cuda-bindings"
PROVIDERS = (PYCUDA, CUDA_BINDINGS)  # in the order that "auto" takes them


def installed_providers() -> tuple[str, ...]:
    """Those that could be imported, without importing them."""
    found = {PYCUDA: is_installed("pycuda"), CUDA_BINDINGS: is_installed("cuda.bindings")}
    return tuple(name for name in PROVIDERS if found[name])


def open_driver(name: str = AUTO, device: int = 0) -> CountedDriver:
    """A driver on a device; its name says the provider. Raises UsageError for an unknown provider, and DriverError.

    "auto" takes pycuda where it is installed, because who built it wants it, and cuda-bindings otherwise. Only
    cuda-bindings has CUDA graphs and takes streams of other libraries.
    """
    if name not in (AUTO, *PROVIDERS):
        raise UsageError(f"There is no CUDA driver provider '{name}'; {did_you_mean(name, (AUTO, *PROVIDERS))}")
    installed = installed_providers()
    if name == AUTO:
        if not installed:
            raise DriverError(
                f"A GPU was asked for, but no CUDA driver provider is installed: {install_command('cuda')}, "
                "or use the CPU."
            )
        name = installed[0]
    elif name not in installed:
        extra = "pycuda" if name == PYCUDA else "cuda"
        raise DriverError(
            f"The CUDA driver provider {name} was asked for, but it is not installed: "
            f"{install_command(extra)}, or choose another."
        )
    driver: Driver
    if name == PYCUDA:
        from centermask_runtime.cuda.pycuda_driver import PycudaDriver

        driver = PycudaDriver(device)
    else:
        from centermask_runtime.cuda.bindings_driver import BindingsDriver

        driver = BindingsDriver(device)
    return CountedDriver(driver)

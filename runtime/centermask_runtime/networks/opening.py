# SPDX-License-Identifier: Apache-2.0
"""Which GPU network runs a file, ONNX Runtime for .onnx, TensorRT or TensorRT-RTX for an engine, and on what stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_runtime.errors import ModelError

if TYPE_CHECKING:
    from centermask_runtime.cuda.driver import Driver
    from centermask_runtime.networks.gpu_network import GpuNetwork

ENGINES = (".engine", ".plan")


@contextmanager
def gpu_stream(provider: str = "auto", device: int = 0) -> Iterator[tuple[Driver, int]]:
    """A driver and a stream on it, both given back at the end. Raises UsageError, DriverError; see open_driver."""
    from centermask_runtime.cuda.providers import open_driver

    with ExitStack() as made:
        driver = open_driver(provider, device)
        made.callback(driver.close)
        stream = driver.create_stream()
        made.callback(driver.destroy_stream, stream)
        yield driver, stream


def open_gpu_network(path: str | Path, driver: Driver, stream: int, *, device: int = 0) -> GpuNetwork:
    """A network for single images whose work goes on the stream. Raises ModelError."""
    path = Path(path)
    if path.suffix == ".onnx":
        from centermask_runtime.networks.onnx_runtime_gpu import OnnxRuntimeGpuNetwork

        return OnnxRuntimeGpuNetwork(path, stream, device=device)
    if path.suffix in ENGINES:
        from centermask_runtime.networks.tensorrt_engine import TensorRTEngine

        return TensorRTEngine(path, driver).network()
    raise ModelError(f"{path} is no .onnx, {' or '.join(ENGINES)} file: give what `centermask export` wrote.")

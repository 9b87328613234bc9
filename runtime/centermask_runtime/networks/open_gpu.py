# SPDX-License-Identifier: Apache-2.0
"""Which GPU network runs a file: ONNX Runtime for .onnx, TensorRT or TensorRT-RTX for an engine."""

from __future__ import annotations

from pathlib import Path

from centermask_runtime.cuda.driver import Driver
from centermask_runtime.errors import ModelError
from centermask_runtime.networks.gpu_network import GpuNetwork

ENGINES = (".engine", ".plan")


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

# SPDX-License-Identifier: Apache-2.0
"""A network on the device: the interface that the GPU pipeline works with, and its use as any other Network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.cuda import layouts
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.workspace import Workspace
from centermask_runtime.errors import ModelError
from centermask_runtime.networks.network import HEADS_OUTPUTS, PEAKS_OUTPUTS, Network, PeakOutputs
from centermask_runtime.spec import ModelSpec

INPUT_NAME = "images"
OUTPUT_NAMES = {"peaks": PEAKS_OUTPUTS, "heads": HEADS_OUTPUTS}


class GpuNetwork(Protocol):
    """A network for one batch size whose work goes on a stream. One frame after another, never two at a time."""

    spec: ModelSpec
    batch: int
    description: str  # for people: "TensorRT 10.8 engine, fp16"
    stream: int | None  # the only stream it works on; None when any will do

    def enqueue(self, images: int, outputs: Mapping[str, int], stream: int) -> None:
        """images: uint8 [N, H, W, 3] BGR on the device; outputs: by name, as outputs_layout has them. Does not wait."""
        ...

    def capture_refusal(self, stream: int) -> str | None:
        """Why its work cannot become part of a CUDA graph; None when it can. Asked after the first enqueue."""
        ...

    def close(self) -> None: ...


def as_network(
    driver: Driver,
    network: GpuNetwork,
    stream: int,
    *,
    kernels: bytes | None = None,
    below: ExitStack | None = None,
) -> Network:
    """A GpuNetwork as a Network: images go up, detections come down, so that AP and comparisons treat all alike.

    For results, not for speed: GpuPipeline is for that. The network is closed with it, and then what is in `below`.
    kernels: code for the driver, else the shipped or compiled one; only level `heads` needs it. Raises DriverError.
    """
    return _AsNetwork(driver, network, stream, kernels, ExitStack() if below is None else below)


class _AsNetwork(Closing):
    """Outputs are new arrays at each call, from any thread."""

    def __init__(
        self, driver: Driver, network: GpuNetwork, stream: int, kernels: bytes | None, below: ExitStack
    ) -> None:
        self.spec = spec = network.spec
        self.batch: int | None = network.batch
        self.description = f"{network.description}, {driver.name}"
        self._driver, self._network, self._stream = driver, network, stream
        self._input_shape = network.batch, *spec.input_hw, 3
        self._layout = layouts.outputs_layout(dataclasses.replace(spec, graph_level="peaks"), network.batch)
        self._lock = Lock()
        with ExitStack() as made:
            made.enter_context(below)
            made.callback(network.close)
            self._workspace = made.enter_context(Workspace(driver, spec, kernels, network.batch))
            made.callback(driver.synchronize, stream)
            self._workspace.prepare_network()
            self._resources = made.pop_all()

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        """images uint8 [N, H, W, 3] BGR of the network's batch size. Raises ModelError, DriverError."""
        if images.dtype != np.uint8 or images.shape != self._input_shape:
            raise ModelError(
                f"The network takes images uint8 {list(self._input_shape)}, not {images.dtype} {list(images.shape)}; "
                "resize them, or export the model with another batch or input size."
            )
        space, driver, stream = self._workspace, self._driver, self._stream
        found = {name: np.empty(field.shape, field.dtype) for name, field in self._layout.fields.items()}
        with self._lock:
            driver.upload(space.images, np.ascontiguousarray(images), stream)
            self._network.enqueue(space.images, space.outputs_by_name, stream)
            peaks = space.find_peaks(self._network.batch, stream)
            for name, array in found.items():
                driver.download(array, getattr(peaks, name), stream)
            driver.synchronize(stream)
        return PeakOutputs(**found)

    def close(self) -> None:
        """Waits for what is under way, then gives everything back. Closing twice is the same as closing once."""
        with self._lock:
            self._resources.close()

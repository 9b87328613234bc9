# SPDX-License-Identifier: Apache-2.0
"""A GpuNetwork as a Network: images go up, detections come down, so that AP and comparisons of engines go the way of
every other back end. With level `heads` the CUDA kernels find the peaks. For results, not for speed: GpuPipeline is.
"""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.cuda.buffers import HeadPointers, PeakPointers
from centermask_runtime.cuda.compile import kernel_image
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.memory import DeviceBuffer
from centermask_runtime.cuda.stages import Stages
from centermask_runtime.errors import ModelError
from centermask_runtime.networks.gpu_network import OUTPUT_NAMES, GpuNetwork, outputs_layout
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.networks.opening import gpu_stream, open_gpu_network


class HostView(Closing):
    """Owns the network, and what is `below` it: closed after it. Outputs are new arrays at each call."""

    def __init__(
        self,
        driver: Driver,
        network: GpuNetwork,
        stream: int,
        *,
        kernels: bytes | None = None,
        below: ExitStack | None = None,
    ) -> None:
        """kernels: code for the driver, else the shipped or compiled one; for level `heads`. Raises DriverError."""
        self.spec = spec = network.spec
        self.batch: int | None = network.batch
        self.description = f"{network.description}, {driver.name}"
        self._driver, self._network, self._stream = driver, network, stream
        self._input_shape = network.batch, *spec.input_hw, 3
        self._layout = outputs_layout(dataclasses.replace(spec, graph_level="peaks"), network.batch)
        self._stages: Stages | None = None
        with ExitStack() as made:
            if below is not None:
                made.enter_context(below)
            made.callback(network.close)
            outputs = outputs_layout(spec, network.batch)
            blocks = [DeviceBuffer(driver), DeviceBuffer(driver), DeviceBuffer(driver)]
            for block in blocks:
                made.callback(block.close)
            images, written, peaks = blocks
            images.reserve(int(np.prod(self._input_shape)))
            written.reserve(outputs.nbytes)
            if spec.graph_level == "heads":
                code = kernel_image(driver.compute_capability).code if kernels is None else kernels
                self._stages = made.enter_context(Stages(driver, code, spec, network.batch))
                peaks.reserve(self._stages.peaks_layout().nbytes)
                self._peaks = self._stages.peaks_layout().at(peaks.pointer)
            made.callback(driver.synchronize, stream)
            self._images = images.pointer
            block_of_outputs = outputs.at(written.pointer)
            self._outputs = {name: block_of_outputs[name] for name in OUTPUT_NAMES[spec.graph_level]}
            self._resources = made.pop_all()

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        """images uint8 [N, H, W, 3] BGR of the network's batch size. Raises ModelError, DriverError."""
        if images.dtype != np.uint8 or images.shape != self._input_shape:
            raise ModelError(
                f"The network takes images uint8 {list(self._input_shape)}, not {images.dtype} {list(images.shape)}; "
                "resize them, or export the model with another batch or input size."
            )
        driver, stream = self._driver, self._stream
        driver.upload(self._images, np.ascontiguousarray(images), stream)
        self._network.enqueue(self._images, self._outputs, stream)
        peaks = self._peak_pointers()
        found = {name: np.empty(field.shape, field.dtype) for name, field in self._layout.fields.items()}
        for name, array in found.items():
            driver.download(array, getattr(peaks, name), stream)
        driver.synchronize(stream)
        return PeakOutputs(**found)

    def close(self) -> None:
        """Waits for what is under way, then gives everything back. Twice is once."""
        self._resources.close()

    def _peak_pointers(self) -> PeakPointers:
        """Where the detections lie once the work on the stream is done."""
        if self._stages is None:
            return PeakPointers(**self._outputs)
        heads = HeadPointers(**self._outputs)
        self._stages.top_peaks(heads.heatmap, self._peaks, self._stream)
        return self._stages.gather_heads(heads, self._peaks, self._stream)


def open_host_view(path: str | Path, provider: str = "auto", device: int = 0) -> HostView:
    """The view of a file's network on a driver and a stream of its own. Raises UsageError, ModelError, DriverError."""
    with ExitStack() as made:
        driver, stream = made.enter_context(gpu_stream(path, provider, device))
        network = open_gpu_network(path, driver, stream, device=device)
        return HostView(driver, network, stream, below=made.pop_all())

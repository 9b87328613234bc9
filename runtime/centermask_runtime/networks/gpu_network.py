# SPDX-License-Identifier: Apache-2.0
"""The interface between the GPU pipeline and whatever computes the network on the device: device memory in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from centermask_runtime.cuda.buffers import Layout
from centermask_runtime.networks.network import HEADS_OUTPUTS, PEAKS_OUTPUTS
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


def outputs_layout(spec: ModelSpec, batch: int) -> Layout:
    """Where a network of the spec's graph level writes."""
    n, k, size = batch, spec.max_detections, spec.shape_size
    height, width = spec.grid_hw
    saliency = np.float32, (n, spec.saliency_channels, height, width)
    if spec.graph_level == "heads":
        return Layout.of(
            heatmap=(np.float32, (n, spec.num_classes, height, width)),
            offsets=(np.float32, (n, 2, height, width)),
            sizes=(np.float32, (n, 2, height, width)),
            shapes=(np.float32, (n, size * size, height, width)),
            saliency=saliency,
        )
    return Layout.of(
        scores=(np.float32, (n, k)),
        labels=(np.int32, (n, k)),
        boxes=(np.float32, (n, k, 4)),
        shapes=(np.float32, (n, k, size, size)),
        saliency=saliency,
    )

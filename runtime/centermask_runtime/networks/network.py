# SPDX-License-Identifier: Apache-2.0
"""The one interface between the pipeline and whatever computes the network."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.spec import ModelSpec

CLOSED = "The model is closed: open it again before the next call."
PEAKS_OUTPUTS = ("scores", "labels", "boxes", "shapes", "saliency")
# Level `heads`, all float32: logits [N, C, h, w], cells [N, 2, h, w] twice, logits [N, S S, h, w] and [N, Cs, h, w]
HEADS_OUTPUTS = ("heatmap", "offsets", "sizes", "shapes", "saliency")


@dataclass(frozen=True)
class PeakOutputs:
    """What a graph of level `peaks` gives for N images, K detections each, best first."""

    scores: NDArray[np.float32]  # [N, K]
    labels: NDArray[np.int32]  # [N, K]
    boxes: NDArray[np.float32]  # [N, K, 4] xyxy, network input pixels
    shapes: NDArray[np.float32]  # [N, K, S, S] logits
    saliency: NDArray[np.float32]  # [N, Cs, H/4, W/4] logits


class Network(Protocol):
    """A back end: a context manager with one method, which several threads may call at once.

    A returned array may be reused by the same thread's next call.
    """

    spec: ModelSpec
    batch: int | None  # images per call; None where any number will do
    description: str  # for people: "ONNX Runtime 1.31 on CPU, 2 threads"

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        """images uint8 [N, H, W, 3] BGR, H and W as spec.input_hw."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

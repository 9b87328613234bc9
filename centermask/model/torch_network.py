# SPDX-License-Identifier: Apache-2.0
"""PyTorch is one more back end of the runtime: validation and weights files go through the pipeline that users run."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from centermask.model.network import CenterMaskNet
from centermask_runtime.closing import Closing
from centermask_runtime.errors import ModelError
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.spec import ModelSpec


class TorchNetwork(Closing):
    """Runs a CenterMaskNet on the device its weights are on. Several threads may call it at once."""

    def __init__(self, model: CenterMaskNet, spec: ModelSpec) -> None:
        self.model = model.eval()
        self.spec = spec
        self.batch: int | None = None
        self.device = model.mean.device
        self.description = f"PyTorch {torch.__version__} on {self.device.type}, {torch.get_num_threads()} threads"

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        """images uint8 [N, H, W, 3] BGR, H and W multiples of the spec's size_multiple. Raises ModelError."""
        multiple = self.spec.size_multiple
        if (
            images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[3] != 3
            or not images.size
            or any(side % multiple for side in images.shape[1:3])
        ):
            raise ModelError(
                f"The network takes images uint8 [N, H, W, 3] with sides in multiples of {multiple}, not "
                f"{images.dtype} {list(images.shape)}; resize them."
            )
        with torch.inference_mode():
            outputs = self.model.peaks(torch.from_numpy(np.ascontiguousarray(images)).to(self.device))
        return PeakOutputs(*(tensor.cpu().numpy() for tensor in outputs))

    def close(self) -> None:
        pass

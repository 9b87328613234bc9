# SPDX-License-Identifier: Apache-2.0
"""PyTorch is one more back end of the runtime: validation and weights files go through the pipeline that users run."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from centermask.model.network import CenterMaskNet
from centermask_runtime.closing import Closing
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.spec import ModelSpec


class TorchNetwork(Closing):
    """Runs a CenterMaskNet on the device its weights are on."""

    def __init__(self, model: CenterMaskNet, spec: ModelSpec) -> None:
        self.model = model.eval()
        self.spec = spec
        self.batch: int | None = None
        self.device = model.mean.device
        self.description = f"PyTorch {torch.__version__} on {self.device.type}, {torch.get_num_threads()} threads"

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        with torch.inference_mode():
            outputs = self.model.peaks(torch.from_numpy(images).to(self.device))
        return PeakOutputs(*(tensor.cpu().numpy() for tensor in outputs))

    def close(self) -> None:
        pass

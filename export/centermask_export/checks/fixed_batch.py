# SPDX-License-Identifier: Apache-2.0
"""A network of fixed batch N as one of batch 1: the image is repeated, and the first result kept. For checks only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.networks.network import Network, PeakOutputs


class Repeated(Closing):
    """Does not own the network."""

    def __init__(self, network: Network, batch: int) -> None:
        self.network = network
        self.batch: int | None = 1
        self._times = batch
        self.spec = network.spec
        self.description = network.description

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        """images uint8 [1, H, W, 3] BGR."""
        assert len(images) == 1, images.shape
        outputs = self.network.run(np.repeat(images, self._times, axis=0))
        return PeakOutputs(
            outputs.scores[:1], outputs.labels[:1], outputs.boxes[:1], outputs.shapes[:1], outputs.saliency[:1]
        )

    def close(self) -> None:
        pass

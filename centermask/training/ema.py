# SPDX-License-Identifier: Apache-2.0
"""The exponential moving average of the weights, which is what is validated and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from centermask.model.network import CenterMaskNet


class WeightAverage:
    """A second model that follows the trained one: average += (1 - decay) * (weights - average), integers copied.

    After n steps the decay is at most (1 + n) / (10 + n), so that the average forgets the random start.
    """

    def __init__(self, model: CenterMaskNet, decay: float) -> None:
        self.model = copy.deepcopy(model).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: CenterMaskNet, step: int) -> None:
        """Moves the average towards the weights. step: counted from 0."""
        taken = step + 1
        weight = 1 - min(self.decay, (1 + taken) / (10 + taken))
        current = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.dtype.is_floating_point:
                average.lerp_(current[name], weight)
            else:
                average.copy_(current[name])

    def state_dict(self) -> dict[str, Tensor]:
        return self.model.state_dict()

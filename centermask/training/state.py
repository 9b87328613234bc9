# SPDX-License-Identifier: Apache-2.0
"""TrainingState: where a training stands between two steps. With the weights it is all that a resumed one needs.

There is no random state in it: what is drawn depends on (seed, epoch, image) alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from centermask.config import TrainConfig
from centermask.training.losses import LOSS_NAMES


@dataclass
class TrainingState:
    loss_sum: Tensor  # [6], LOSS_NAMES, summed over the steps of this epoch; this process's part, on its device
    epoch: int = 0  # of the next step, counted from 0: as many are trained, validated and saved
    step: int = 0  # of the next step, counted from 0
    step_in_epoch: int = 0  # the same, counted from the beginning of the epoch
    best_ap: float = -1.0  # mask AP of the weights in weights/best.safetensors
    best_epoch: int = 0  # the epoch, counted from 1, that they are from
    seconds: float = 0.0  # spent in steps, in all sessions together

    @classmethod
    def beginning(cls, device: torch.device) -> Self:
        return cls(torch.zeros(len(LOSS_NAMES), device=device))

    def is_stale(self, train: TrainConfig) -> bool:
        """Tells whether train.patience is over: that many epochs without a better mask AP, the last one validated."""
        return 0 < train.patience <= self.epoch - self.best_epoch and self.epoch % train.val_every == 0

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "loss_sum": self.loss_sum.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], device: torch.device) -> Self:
        """Takes what to_dict gave. Raises KeyError that names a missing field."""
        fields = {field.name: values[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**fields, "loss_sum": torch.tensor(values["loss_sum"], device=device)})

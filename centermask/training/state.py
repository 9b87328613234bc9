# SPDX-License-Identifier: Apache-2.0
"""TrainingState: where a training stands between two steps. With the weights it is all that a resumed one needs.

There is no random state in it: what is drawn depends on (seed, epoch, image) alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from centermask.config import TrainConfig
from centermask.training.best import Best
from centermask.training.losses import LOSS_NAMES


@dataclass
class TrainingState:
    loss_sum: Tensor  # [7], LOSS_NAMES, summed over the steps of this epoch; this process's part, on its device
    epoch: int = 0  # of the next step, counted from 0: as many are trained, validated and saved
    step: int = 0  # of the next step, counted from 0
    step_in_epoch: int = 0  # the same, counted from the beginning of the epoch
    best: Best = field(default_factory=Best)  # weights/best.safetensors
    seconds: float = 0.0  # spent in steps, in all sessions together

    @classmethod
    def beginning(cls, device: torch.device) -> Self:
        return cls(torch.zeros(len(LOSS_NAMES), device=device))

    def is_stale(self, train: TrainConfig) -> bool:
        """Tells whether train.patience is over: that many epochs without a better score, the last one validated."""
        return 0 < train.patience <= self.epoch - self.best.risen and self.epoch % train.val_every == 0

    @property
    def best_ap(self) -> float:
        """Mask AP of the weights in weights/best.safetensors."""
        return self.best.ap

    @property
    def best_epoch(self) -> int:
        """The epoch, counted from 1, that they are from."""
        return self.best.epoch

    def to_dict(self) -> dict[str, Any]:
        best = {**vars(self.best), "recent": list(self.best.recent)}
        return {**vars(self), "loss_sum": self.loss_sum.tolist(), "best": best}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], device: torch.device) -> Self:
        """Takes what to_dict gave. Raises KeyError that names a missing field."""
        if "best" in values:
            best = Best(**{**values["best"], "recent": tuple(values["best"]["recent"])})
        else:  # of the first checkpoints, which kept the highest AP alone
            ap, epoch = values["best_ap"], values["best_epoch"]
            best = Best(epoch, ap, ap, epoch)
        plain = (one.name for one in dataclasses.fields(cls) if one.name not in ("loss_sum", "best"))
        sums = [*values["loss_sum"], 0.0][: len(LOSS_NAMES)]  # the first checkpoints had no `distill`, the last one
        loss_sum = torch.tensor(sums, device=device)
        return cls(loss_sum=loss_sum, best=best, **{name: values[name] for name in plain})

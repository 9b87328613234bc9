# SPDX-License-Identifier: Apache-2.0
"""The optimizer, and its rate as a pure function of the step: linear warm-up, then tenfold drops or a cosine."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from centermask.config import TrainConfig

COSINE_FLOOR = 0.01  # of the full rate, at the end


def make_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """Makes Adam or AdamW, as train.optimizer says."""
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay)


def learning_rate(step: int, total_steps: int, config: TrainConfig) -> float:
    """Returns the rate of a step, 0 .. total_steps - 1."""
    warmup = min((step + 1) / config.warmup_steps, 1.0) if config.warmup_steps > 0 else 1.0
    part = step / max(total_steps, 1)
    if config.schedule == "cosine":
        decay = COSINE_FLOOR + (1 - COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * part))
    else:
        decay = 0.1 ** sum(part >= drop for drop in config.drops)
    return full_rate(config) * warmup * decay


def full_rate(config: TrainConfig) -> float:
    """Returns train.lr for the batch at hand: in proportion to it, where the config says what batch lr is meant for."""
    return config.lr if config.lr_batch in (None, config.batch) else config.lr * config.batch / config.lr_batch

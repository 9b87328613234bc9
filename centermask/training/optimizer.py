# SPDX-License-Identifier: Apache-2.0
"""The optimizer, and its rate as a pure function of the step: linear warm-up, then tenfold drops or a cosine.

The backbone may learn at another rate than the rest (train.base_lr, a factor), and so may what else starts from other
weights (train.started_lr).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from centermask.config import TrainConfig
from centermask.model.network import CenterMaskNet

COSINE_FLOOR = 0.01  # of the full rate, at the end


def make_optimizer(model: CenterMaskNet, config: TrainConfig) -> torch.optim.Optimizer:
    """Makes Adam or AdamW, as train.optimizer says, for the parameters that are not frozen.

    Each group of parameters has `lr_scale`, the factor of its rate. There is one group, unless train.base_lr is not 1,
    which sets the backbone apart, or train.started_lr is not 1, which sets each part of the model apart.
    """
    apart = {"base"} if config.base_lr != 1 else set()
    if config.started_lr != 1:
        apart |= {name for name, _ in model.named_children()} - {"base"}
    parts: dict[str, list[nn.Parameter]] = {"": []}  # the rest first
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0]
        if parameter.requires_grad:
            parts.setdefault(part if part in apart else "", []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "lr_scale": config.base_lr if part == "base" else 1.0, "part": part}
        for part, parameters in parts.items()
        if parameters
    ]
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, weight_decay=config.weight_decay)


def slow_down(
    optimizer: torch.optim.Optimizer, started: Collection[str], model: CenterMaskNet, scale: float
) -> list[str]:
    """Gives the parts of a model that started from other weights whole, backbone apart, a factor; returns their names.

    started: names of the parameters that did. The factors are part of the optimizer's state, so they outlive a resume.
    """
    slowed = []
    for group in optimizer.param_groups:
        part = group.get("part", "")
        if part in ("", "base"):
            continue
        names = {f"{part}.{name}" for name, _ in getattr(model, part).named_parameters()}
        if names <= set(started):
            group["lr_scale"] = scale
            slowed.append(part)
    return slowed


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives each group of parameters the rate times its own factor; the first checkpoints note none."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


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

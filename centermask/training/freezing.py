# SPDX-License-Identifier: Apache-2.0
"""Freezing: the first levels of a backbone keep the weights that they start with, and their batch norms the statistics.

What is frozen costs no backward pass, and cannot forget what it learned from more images than the ones at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from centermask.config import ModelConfig
from centermask.model.network import CenterMaskNet
from centermask_runtime.errors import UsageError


@dataclass(frozen=True)
class Frozen:
    """What training leaves alone."""

    levels: tuple[nn.Module, ...]
    parameters: int
    of_all: int

    def __str__(self) -> str:
        return (
            f"Frozen: {self.parameters:,} of {self.of_all:,} parameters, with the statistics of their batch norms "
            "(model.freeze)."
        )


def freeze(model: CenterMaskNet, config: ModelConfig) -> Frozen:
    """Ends the gradients of as many levels of the backbone as model.freeze says. Raises UsageError if it has fewer.

    As detectron2's FREEZE_AT and Ultralytics' `freeze`, it counts from the image on: of a backbone that halves five
    times, 1 (or stem) is all down to stride 2, and 2 all down to stride 4; base is the whole of it.
    """
    found = model.base.levels()
    wanted = {"stem": 1, "base": len(found)}[config.freeze] if isinstance(config.freeze, str) else config.freeze
    if wanted > len(found):
        raise UsageError(
            f"model.freeze {wanted} is more than the {len(found)} levels of {config.backbone}; name fewer, or base."
        )
    levels = (model.base,) if wanted == len(found) else tuple(part for level in found[:wanted] for part in level)
    parameters = {parameter for level in levels for parameter in level.parameters()}
    for parameter in parameters:
        parameter.requires_grad_(False)
    return Frozen(levels, sum(one.numel() for one in parameters), sum(one.numel() for one in model.parameters()))


def check_frozen(frozen: Frozen, has_starting_weights: bool) -> None:
    """Raises UsageError where random weights would stay random."""
    if frozen.levels and not has_starting_weights:
        raise UsageError(
            "model.freeze keeps part of the backbone as it starts, which would be at random; start from other weights, "
            "or set it to 0."
        )

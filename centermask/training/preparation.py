# SPDX-License-Identifier: Apache-2.0
"""What happens once, before the first step: do the data sets go together, and how the model is made ready to train."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn

from centermask.config import TrainConfig
from centermask.data.dataset import Dataset
from centermask.model.network import CenterMaskNet
from centermask_runtime.errors import DataError, UsageError


def check_datasets(train_set: Dataset, val_set: Dataset) -> None:
    """Raises DataError unless one can be trained on and the other validated on."""
    train, val = (set(zip(one.category_ids, one.class_names, strict=True)) for one in (train_set, val_set))
    if train != val:
        number, name = min(train ^ val)
        raise DataError(
            f"{val_set.annotation_file} and {train_set.annotation_file} have different categories, {number} '{name}' "
            "is in one of them only; training and validation need the same ids with the same names."
        )
    if not len(train_set):
        raise DataError(f"{train_set.annotation_file} has no image to train on.")
    if all(one.crowd for index in range(len(val_set)) for one in val_set.objects(index)):
        raise DataError(f"{val_set.annotation_file} has no object but crowds, so there is nothing to validate on.")


def optimizer_of(model: CenterMaskNet, config: TrainConfig) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)


def check_scale(config: TrainConfig, device: torch.device, processes: int) -> None:
    """Raises UsageError where this machine lacks something that the config asks for."""
    if config.compile and shutil.which(os.environ.get("CXX", "g++")) is None:  # on a GPU Triton needs it as well
        raise UsageError(
            "train.compile needs a C++ compiler, but there is no g++ here; install one or set it to false."
        )
    if config.sync_bn and processes > 1 and device.type == "cpu":
        raise UsageError("train.sync_bn works between GPUs only, but this training runs on the CPU; set it to false.")


def runnable(model: CenterMaskNet, config: TrainConfig, processes: int) -> nn.Module:
    """What runs the model's weights: the model itself as train.sync_bn and train.recompute want it, or compiled."""
    model.base.recompute = config.recompute
    if config.sync_bn and processes > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # in place
    return torch.compile(model) if config.compile else model  # type: ignore[return-value]

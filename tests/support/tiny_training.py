# SPDX-License-Identifier: Apache-2.0
"""A training of seconds on drawn shapes: its config, its images and its trainer."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from centermask.config import AugmentConfig, Config, InputConfig, LossConfig, ModelConfig, TrainConfig
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.synthetic import write_shapes
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer

CONFIG = Config(
    "tiny",
    ModelConfig("dla_46c", head_channels=16, shape_size=8, max_detections=10),
    InputConfig(size=(64, 64)),
    TrainConfig(
        epochs=2, batch=2, optimizer="adamw", lr=1e-3, warmup_steps=1, schedule="cosine", ema=0.9, workers=0,
        augment=AugmentConfig(rotate_90=True, invert=0.2), loss=LossConfig(mask_grid=8),
    ),
)  # fmt: skip


def seven_shapes(folder: Path) -> tuple[Dataset, Dataset]:
    """Seven training and two validation images of 64 x 64: three steps an epoch, one image left over."""
    write_shapes(folder, 7, seed=1, val_count=2, size_hw=(64, 64), max_objects=3)
    return load_dataset(find_split(folder, "train")), load_dataset(find_split(folder, "val"))


def new_trainer(parent: Path, shapes, config: Config = CONFIG) -> Trainer:
    return Trainer(config, *shapes, RunFolder.choose(parent, config.name), device="cpu")


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(path))

# SPDX-License-Identifier: Apache-2.0
"""Drawn shapes, a batch of them, and a run with all its pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from centermask.config import AugmentConfig, Config, InputConfig, ModelConfig, TrainConfig, parse_config
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import Batch, TrainingSet, collate
from centermask.data.sampling import Draw
from centermask.data.synthetic import write_shapes
from centermask.training.listeners.plots import add_plots
from centermask.training.listeners.tensorboard_events import add_tensorboard
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer
from tests.support.made_once import made_once

TINY = """
name: tiny
model: {backbone: dla_46c, head_channels: 16, shape_size: 8, saliency: class_agnostic, max_detections: 10}
input: {size: [64, 64]}
train: {epochs: 2, batch: 2, lr: 1e-3, warmup_steps: 1, workers: 0, precision: 32-true, schedule: cosine}
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shapes")
    write_shapes(path, 4, seed=2, val_count=2, size_hw=(80, 100))
    return path


@pytest.fixture(scope="session")
def dataset(folder) -> Dataset:
    return load_dataset(find_split(folder, "train"))


@pytest.fixture(scope="session")
def batch(dataset) -> Batch:
    model = ModelConfig(saliency="class_agnostic")
    train = TrainConfig(epochs=20, augment=AugmentConfig(scale=(1.0, 1.6), mosaic=0.3))
    samples = TrainingSet(dataset, Config("shapes", model=model, input=InputConfig(size=(96, 96)), train=train))
    return collate([samples[Draw(index)] for index in range(4)])


@pytest.fixture(scope="session")
def trained(folder) -> Path:
    """The folder of a run of two epochs, with plots and TensorBoard; first.npy holds the first batch."""

    def train(place: Path) -> None:
        sets = tuple(load_dataset(find_split(folder, split)) for split in ("train", "val"))
        trainer = Trainer(parse_config(TINY, "test"), *sets, RunFolder(place / "tiny"), device="cpu")
        add_plots(trainer.callbacks)
        add_tensorboard(trainer.callbacks)
        seen: list[torch.Tensor] = []
        trainer.callbacks.add("on_train_batch_start", lambda trainer: seen.append(trainer.batches[0].images))
        trainer.fit()
        np.save(place / "tiny" / "first.npy", seen[0].numpy())

    return made_once("plotted_run", train) / "tiny"

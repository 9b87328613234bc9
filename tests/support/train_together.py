# SPDX-License-Identifier: Apache-2.0
"""A training as a program of its own, for tests that start it once or in several processes.

usage: train_together.py DATA RUN PROCESSES [EVENT]; writes RUN/losses.json and RUN/heard.json on the first process.
A callback at EVENT fails.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import torch
from torch import nn

from centermask.config import AugmentConfig, Config, InputConfig, LossConfig, ModelConfig, TrainConfig
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.sampling import Draw
from centermask.training import trainer as trainer_module
from centermask.training.losses import Losses
from centermask.training.progress import TrainingDisplay
from centermask.training.run_folder import DataSource, RunFolder
from centermask.training.trainer import Trainer
from centermask_runtime.errors import DataError

CONFIG = Config(
    "together",
    ModelConfig("dla_46c", head_channels=16, shape_size=8, max_detections=10),
    InputConfig(size=(64, 64)),
    TrainConfig(
        epochs=2, batch=4, lr=2e-5, warmup_steps=0, ema=0.9, workers=0, augment=AugmentConfig(rotate_90=True),
        loss=LossConfig(mask_grid=8),
    ),
)  # fmt: skip


class Recorder(TrainingDisplay):
    """All losses of all steps."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.losses: list[list[float]] = []
        self.heard: dict[str, list[float]] = {"steps": [], "epochs": []}  # the total loss, by callbacks

    def step(self, epoch: int, step: int, losses: Losses) -> None:
        self.losses.append([float(value) for value in losses])


def freeze_norms(trainer: Trainer) -> None:
    """Batch norms that fit the data and stay so: as usual, each process would normalise by its own images.

    A channel that hardly varies would magnify rounding errors a hundredfold, so its variance is raised.
    """
    norms = [module for module in trainer.model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    images = torch.stack([torch.from_numpy(trainer.samples[Draw(image)][0]) for image in range(8)])
    with torch.no_grad():
        trainer.model.train().features(images)
        for norm in norms:
            assert norm.running_var is not None
            norm.running_var.clamp_(min=float(norm.running_var.mean()))
            norm.train = lambda mode=True, norm=norm: nn.Module.train(norm, False)  # type: ignore[method-assign]
    trainer.average.model.load_state_dict(trainer.model.state_dict())


def refuse(_: Trainer) -> None:
    raise DataError("The callback has had enough.")


def train(data: Path, run: Path, processes: int, config: Config = CONFIG, failing: str | None = None) -> Recorder:
    sets = load_dataset(find_split(data, "train")), load_dataset(find_split(data, "val"))
    recorder = Recorder()
    trainer = Trainer(config, *sets, RunFolder(run), device="cpu", devices=processes, display=recorder)
    freeze_norms(trainer)
    for event, heard in (("on_train_batch_end", "steps"), ("on_train_epoch_end", "epochs")):
        totals = recorder.heard[heard]
        trainer.callbacks.add(event, lambda trainer, totals=totals: totals.append(float(trainer.losses.total)))
    if failing is not None:
        trainer.callbacks.add(failing, refuse)
    trainer.make_run_folder((DataSource.of(sets[0]), DataSource.of(sets[1])))
    trainer.fit()
    return recorder


if __name__ == "__main__":
    torch.set_num_threads(1)
    trainer_module.CHECK_EVERY = 1
    run = Path(sys.argv[2])
    failing = sys.argv[4] if len(sys.argv) > 4 else None
    recorder = train(Path(sys.argv[1]), run, int(sys.argv[3]), dataclasses.replace(CONFIG, name=run.name), failing)
    if recorder.losses:
        (run / "losses.json").write_text(json.dumps(recorder.losses))
        (run / "heard.json").write_text(json.dumps(recorder.heard))

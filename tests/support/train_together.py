# SPDX-License-Identifier: Apache-2.0
"""A training as a program of its own, for tests that start it once or in several processes.

usage: train_together.py DATA RUN PROCESSES [EVENT]; writes RUN/losses.json and RUN/heard.json on the first process.
A callback at EVENT fails.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from centermask.config import AugmentConfig, Config, InputConfig, LossConfig, ModelConfig, TrainConfig
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.sampling import Draw
from centermask.training.progress import TrainingDisplay
from centermask.training.run_folder import RunFolder
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


class EveryStep(TrainingDisplay):
    """Hears of all losses of all steps."""

    def __init__(self) -> None:
        self.losses: list[list[float]] = []
        self.heard: dict[str, list[float]] = {"steps": [], "epochs": []}  # the total loss, by callbacks

    def wants_losses(self) -> bool:
        return True

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        self.losses.append(list(losses.values()))


def freeze_norms(trainer: Trainer) -> None:
    """Batch norms that fit the data and stay so: as usual, each process would normalise by its own images.

    A channel that hardly varies would magnify rounding errors a hundredfold, so its variance is raised.
    """
    norms = [module for module in trainer.learner.model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
    images = torch.stack([torch.from_numpy(trainer.samples[Draw(image)][0]) for image in range(8)])
    with torch.no_grad():
        trainer.learner.model.train().features(images)
        for norm in norms:
            assert norm.running_var is not None
            norm.running_var.clamp_(min=float(norm.running_var.mean()))
            norm.train = lambda mode=True, norm=norm: nn.Module.train(norm, False)  # type: ignore[method-assign]
    trainer.learner.average.model.load_state_dict(trainer.learner.model.state_dict())


def refuse(_: Trainer) -> None:
    raise DataError("The callback has had enough.")


def train(data: Path, run: Path, processes: int, config: Config = CONFIG, failing: str | None = None) -> EveryStep:
    sets = load_dataset(find_split(data, "train")), load_dataset(find_split(data, "val"))
    display = EveryStep()
    trainer = Trainer(config, *sets, RunFolder(run), device="cpu", devices=processes, display=display)
    freeze_norms(trainer)
    for event, heard in (("on_train_batch_end", "steps"), ("on_train_epoch_end", "epochs")):
        totals = display.heard[heard]
        trainer.callbacks.add(event, lambda trainer, totals=totals: totals.append(trainer.losses["total"]))
    if failing is not None:
        trainer.callbacks.add(failing, refuse)
    trainer.fit()
    return display


if __name__ == "__main__":
    torch.set_num_threads(1)
    run = Path(sys.argv[2])
    failing = sys.argv[4] if len(sys.argv) > 4 else None
    display = train(Path(sys.argv[1]), run, int(sys.argv[3]), dataclasses.replace(CONFIG, name=run.name), failing)
    if display.losses:
        (run / "losses.json").write_text(json.dumps(display.losses))
        (run / "heard.json").write_text(json.dumps(display.heard))

# SPDX-License-Identifier: Apache-2.0
"""TensorBoard as a listener: the columns of results.csv as scalars, and pictures of batches and of the validation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from centermask.training.callbacks import Callbacks
from centermask_runtime.images import read_image

if TYPE_CHECKING:
    from centermask.training.trainer import Trainer

NOT_SCALARS = ("epoch", "step")
PICTURES = (
    "train_batch*.jpg",
    "train_targets*.jpg",
    "val_batch*.jpg",
    "labels.jpg",
    "*_curve.png",
    "confusion_matrix.png",
)


def add_tensorboard(callbacks: Callbacks) -> None:
    """Writes event files into the run folder: `tensorboard --logdir runs/train`. Add it after the plots, whose files
    it shows at the end."""
    from torch.utils.tensorboard import SummaryWriter

    writers: list[SummaryWriter] = []

    def start(trainer: Trainer) -> None:
        after = trainer.step + 1 if trainer.step else None  # the step of the last finished epoch keeps its line
        writers.append(SummaryWriter(str(trainer.run.path), purge_step=after))
        writers[0].add_text("args.yaml", f"```yaml\n{trainer.config.to_yaml()}```")

    def epoch(trainer: Trainer) -> None:
        for name, value in trainer.row.items():
            if name not in NOT_SCALARS and math.isfinite(value):
                writers[0].add_scalar(name, value, trainer.step)
        writers[0].flush()

    def end(trainer: Trainer) -> None:
        for path in _pictures(trainer.run.path):
            rgb = cv2.cvtColor(read_image(path), cv2.COLOR_BGR2RGB)
            writers[0].add_image(path.stem, rgb, trainer.step, dataformats="HWC")
        writers.pop().close()

    callbacks.add("on_train_start", start)
    callbacks.add("on_fit_epoch_end", epoch)
    callbacks.add("on_train_end", end)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for pattern in PICTURES for path in folder.glob(pattern))

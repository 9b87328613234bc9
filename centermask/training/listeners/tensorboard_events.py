# SPDX-License-Identifier: Apache-2.0
"""A listener that writes TensorBoard events: the columns of results.csv, and pictures of batches and validation."""

from __future__ import annotations

import math
from pathlib import Path

import cv2

from centermask.training.callbacks import Callbacks, Training
from centermask_runtime.images import read_image

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
    """Adds the listener. It writes into the run folder: `tensorboard --logdir runs/train` shows all runs.

    Add it after the plots, whose pictures it takes over at the end.
    """
    from torch.utils.tensorboard import SummaryWriter

    writers: list[SummaryWriter] = []

    def start(training: Training) -> None:
        after = (
            training.state.step + 1 if training.state.step else None
        )  # the step of the last finished epoch keeps its line
        writers.append(SummaryWriter(str(training.run.path), purge_step=after))
        writers[0].add_text("args.yaml", f"```yaml\n{training.config.to_yaml()}```")

    def epoch(training: Training) -> None:
        for name, value in training.row.items():
            if name not in NOT_SCALARS and math.isfinite(value):
                writers[0].add_scalar(name, value, training.state.step)
        writers[0].flush()

    def end(training: Training) -> None:
        for path in _pictures(training.run.path):
            rgb = cv2.cvtColor(read_image(path), cv2.COLOR_BGR2RGB)
            writers[0].add_image(path.stem, rgb, training.state.step, dataformats="HWC")
        writers.pop().close()

    callbacks.add("on_train_start", start)
    callbacks.add("on_fit_epoch_end", epoch)
    callbacks.add("on_train_end", end)


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for pattern in PICTURES for path in folder.glob(pattern))

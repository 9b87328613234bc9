# SPDX-License-Identifier: Apache-2.0
"""Recorder: what a training leaves in its run folder: weights, results.csv, checkpoints. None of it holds a NaN."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from centermask.config import Config
from centermask.data.dataset import Dataset
from centermask.training.checkpoint import checkpoint_of, restore
from centermask.training.distributed import Group
from centermask.training.learner import Learner
from centermask.training.progress import peak_memory_gib
from centermask.training.run_folder import DataSource, Row, RunFolder
from centermask.training.state import TrainingState
from centermask_runtime.errors import CenterMaskError


class Recorder:
    """Every method is called by all processes; the first one writes, and where it fails all of them end."""

    def __init__(self, config: Config, dataset: Dataset, run: RunFolder, learner: Learner, group: Group) -> None:
        self.config = config
        self.dataset = dataset
        self.run = run
        self.learner = learner
        self.group = group

    def make_run_folder(self, val_set: Dataset) -> None:
        """Raises UsageError where the folder cannot be made."""
        with self.group.together() as main:
            if main:
                self.run.start(self.config, (DataSource.of(self.dataset), DataSource.of(val_set)))

    def save_checkpoint(self, state: TrainingState) -> None:
        self.check_finite("One of the weights", self.learner.model.state_dict().values(), state)
        whole = torch.tensor(self.group.sum(*state.loss_sum.tolist()))
        saved = checkpoint_of(self.config, self.dataset, self.learner, dataclasses.replace(state, loss_sum=whole))
        with self.group.together() as main:
            if main:
                self.run.save_checkpoint(saved)

    def load_checkpoint(self) -> TrainingState:
        """Puts the weights of the checkpoint into the learner; returns where the training stood.

        Raises DataError or CenterMaskError when the checkpoint is damaged, or another config's or data set's.
        """
        if self.group.main:
            self.run.remove_leftovers()
        with self.group.together():
            state = restore(self.run.load_checkpoint(), self.run.checkpoint, self.config, self.dataset, self.learner)
        if not self.group.main:
            state.loss_sum.zero_()  # the saved one is the sum of all processes
        return state

    def save_epoch(
        self,
        state: TrainingState,
        losses: Mapping[str, float],
        metrics: Mapping[str, Mapping[str, float]],
        val_objects: int,
    ) -> Row:
        """Writes the average of the weights, and a row into results.csv, which is returned.

        losses: the epoch's means. metrics: its validation, on so many objects; NaN where it was not validated. The
        state learns whether that is the best so far.
        """
        row: dict[str, float | int] = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "seconds": state.seconds,
            "memory_gib": peak_memory_gib(self.learner.fabric.device),
            "lr": self.learner.rate(state.step - 1),
        }
        taught = self.learner.teacher is not None
        row |= {f"train/{name}": value for name, value in losses.items() if taught or name != "distill"}
        row |= {f"val/{kind}_{name}": metrics[kind][name] for kind in ("bbox", "segm") for name in ("AP", "AP50")}
        ap, best = metrics["segm"]["AP"], state.best
        if not math.isnan(ap):
            best = best.after(state.epoch + 1, ap, val_objects)
        is_best = best.epoch == state.epoch + 1
        with self.group.together() as main:
            if main:
                if is_best:
                    self.learner.save_average(self.run.best)
                self.learner.save_average(self.run.last)
                self.run.append_results(row)
        state.best = best
        return row

    def check_finite(self, what: str, tensors: Iterable[Tensor], state: TrainingState) -> None:
        """Ends all processes if there is a NaN or an infinite value in one of them. Waits for the device."""
        finite_here = all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
        if self.group.any(not finite_here):
            kept = "no good weights were saved yet"
            if self.run.last.exists():
                kept = f"the last good weights are {self.run.last}"
            advice = "lower train.lr"
            if self.config.train.precision != "32-true":
                advice += ", or set train.precision to 32-true"
            self.group.raise_first(
                CenterMaskError(
                    f"{what} is not a number any more at step {state.step} (epoch {state.epoch + 1}), {kept}; {advice}."
                )
            )

# SPDX-License-Identifier: Apache-2.0
"""Trainer: the training loop. `fit` is the loop, `Learner.step` the step, `TrainingState` what changes on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from centermask.config import Config
from centermask.data.dataset import Dataset
from centermask.data.loader import Batch, TrainingSet
from centermask.data.training_steps import TrainingSteps
from centermask.evaluation.evaluate import Evaluation
from centermask.model.pretrained import WeightsReport
from centermask.model.weights import spec_of
from centermask.training.callbacks import Callbacks
from centermask.training.coordination import Coordinator
from centermask.training.distillation import with_whole_path
from centermask.training.distributed import Group, open_fabric, process_count
from centermask.training.fitting import doubt_of_start, doubts, fit_to_data
from centermask.training.freezing import check_frozen
from centermask.training.learner import Learner
from centermask.training.losses import LOSS_NAMES
from centermask.training.progress import TrainingDisplay
from centermask.training.recorder import Recorder
from centermask.training.run_folder import Row, RunFolder
from centermask.training.state import TrainingState
from centermask.training.step_source import StepInput, step_inputs
from centermask.training.validation import NOT_MEASURED, TrainingResult, Validator, check_datasets
from centermask_runtime.device import Device
from centermask_runtime.interrupt import DeferredInterrupt

CHECK_EVERY = 20  # steps between looks at the loss at the latest; each look waits for the device


class Trainer:
    """One training of one config on one data set in one run folder, of which this may be one of several processes."""

    def __init__(
        self, config: Config, train_set: Dataset, val_set: Dataset, run: RunFolder, *,
        device: str | int | Device = "auto", devices: int | None = None, augmented: bool = True,
        display: TrainingDisplay | None = None, fitted: bool = True,
    ) -> None:  # fmt: skip
        """Starts the other processes when all of it goes together. device, devices: as in distributed.open_fabric.

        fitted: the config is fitted to the data set first, see training/fitting.py; a run that goes on keeps its own.
        """
        check_datasets(train_set, val_set)
        spec = spec_of(config, train_set.class_names, train_set.category_ids)
        fabric = open_fabric(config.train, device, devices)
        processes = process_count(fabric)
        self.said: list[str] = []  # about the config, before the first step
        if fitted:
            config, self.said = fit_to_data(
                with_whole_path(config), len(train_set), processes * config.train.accumulate
            )
        self.config, self.val_set = config, val_set
        self.samples = TrainingSet(train_set, config, augmented=augmented)
        self.plan = TrainingSteps(self.samples, processes=processes)
        fabric.launch()
        self.group = Group(fabric)
        self.plan.rank = self.group.rank
        self.device = fabric.device
        self.run = RunFolder(Path(self.group.from_main(str(run.path))))  # others may have found another name free
        self.display = display if display is not None and self.group.main else TrainingDisplay()
        self.callbacks, self.interrupt = Callbacks(), DeferredInterrupt(announce=self.group.main)
        self.coordinator = Coordinator(self.group, self.callbacks, self.interrupt)
        self.validator = Validator(val_set, self.device, self.group, self.display, self.interrupt)
        with self.group.together():
            self.learner = Learner(config, spec, fabric, self.plan.total_steps)
        self.recorder = Recorder(config, train_set, self.run, self.learner, self.group)
        self.state = TrainingState.beginning(self.device)
        self._is_resumed = False
        self._is_between_steps = True
        self.batches: list[Batch] = []
        self.losses = dict.fromkeys(LOSS_NAMES, math.nan)
        self.row: Row = {}
        self.evaluation: Evaluation | None = None
        self.result: TrainingResult | None = None

    def start_from(self, path: Path, origin: str = "") -> WeightsReport:
        """Takes the weights of a file that fit. origin: what the trained ones say of it. Raises ModelError."""
        with self.group.together():
            report = self.learner.start_from(path, origin or path.name)
        doubt = doubt_of_start(path, self.learner.spec)
        self.said += [] if doubt is None else [doubt]
        return report

    def resume(self) -> None:
        """Takes up the run where its checkpoint left it. Raises DataError."""
        self.state = self.recorder.load_checkpoint()
        self._is_resumed = True

    def fit(self) -> TrainingResult:
        """Makes the run folder and trains to the end.

        On Ctrl-C the step is finished and the state saved, then KeyboardInterrupt is raised. Raises UsageError if the
        folder cannot be made or random weights are frozen, and any CenterMaskError of data, disk or a callback.
        """
        if not self._is_resumed:
            check_frozen(self.learner.frozen, self.learner.has_starting_weights)
            self.recorder.make_run_folder(self.val_set)
        with self.display, self.interrupt:
            self._notify("on_pretrain_routine_start")
            self.plan.first_step = self.state.step
            wants_losses = self.display.wants_losses
            inputs = step_inputs(self.plan, self.group, wants_losses, pin_memory=self.device.type == "cuda")
            self._notify("on_pretrain_routine_end")
            self.display.start(str(self.run.path), self.plan, self.state.step, self.device)
            self._say_what_is_special()
            try:
                self._notify("on_train_start")
                while not self.is_finished():
                    self._train_epoch(inputs)
                    self._end_epoch()
                    self.coordinator.poll()
            except KeyboardInterrupt:
                if self._is_between_steps:
                    self.recorder.save_checkpoint(self.state)
                raise
            finally:
                del inputs  # ends the loader's workers
            if self.state.step < self.plan.total_steps:
                best, patience = self.state.best_epoch, self.config.train.patience
                self.display.say(f"Stopped early: no better mask AP in {patience} epochs, the best is of epoch {best}.")
            self.result = self.validator.choose_threshold(self.run, self.state.step)
            self._notify("on_train_end")
            return self.result

    def _say_what_is_special(self) -> None:
        """Tells what was changed in the config, what is frozen, and what speaks against the training."""
        learner = self.learner
        said = list(self.said)
        if learner.frozen.levels:
            said.append(str(learner.frozen))
        if learner.teacher is not None:
            said.append(f"Distilled from {learner.teacher.name} ({self.config.train.distill}).")
        if not self._is_resumed:
            said += doubts(
                self.config.train, self.plan.total_steps, has_starting_weights=learner.has_starting_weights,
                sharing=self.group.size_here,
            )  # fmt: skip
        for sentence in said:
            self.display.say(sentence)

    def is_finished(self) -> bool:
        """Whether all epochs are done and saved; only the mask threshold is left to choose."""
        state = self.state
        has_all_steps = state.step == self.plan.total_steps and state.step_in_epoch == 0
        return has_all_steps or state.is_stale(self.config.train)

    def _train_epoch(self, inputs: Iterator[StepInput]) -> None:
        """Takes the steps that are left of the current epoch: none where only its validation was missing."""
        state, steps = self.state, self.plan.steps_in(self.state.epoch)
        self.learner.to_train_mode()
        if state.step_in_epoch == 0:
            state.loss_sum.zero_()
        self._notify("on_train_epoch_start")
        while state.step_in_epoch < steps:
            started = time.monotonic()
            step_input = next(inputs)
            self.batches = step_input.batches
            self._notify("on_train_batch_start")
            losses = self._take_step(step_input)
            saves = state.step % self.config.train.checkpoint_every == 0
            if step_input.show or saves or state.step % CHECK_EVERY == 0 or state.step_in_epoch == steps:
                self._look_at(losses)
            state.seconds += time.monotonic() - started
            if saves:
                self.recorder.save_checkpoint(state)
            self._notify("on_train_batch_end")
            self.coordinator.poll()

    def _take_step(self, step_input: StepInput) -> Tensor:
        """Takes a step and counts it; returns this process's part of its losses, [7]."""
        state = self.state
        self._is_between_steps = False
        losses = self.learner.step(state.step, step_input.batches, step_input.counts)
        state.loss_sum += losses
        state.step += 1
        state.step_in_epoch += 1
        self._is_between_steps = True
        return losses

    def _look_at(self, losses: Tensor) -> None:
        """Waits for the device, checks the whole step's losses and shows them."""
        whole = self.group.sum(*losses.tolist())
        self.recorder.check_finite("The loss", [torch.tensor(whole)], self.state)
        self.losses = dict(zip(LOSS_NAMES, whole, strict=True))
        self.display.step(self.state.epoch, self.state.step, self.losses)

    def _end_epoch(self) -> None:
        """Validates and saves. Until that is done the epoch counts as running: a resumed run validates it again."""
        state = self.state
        self.recorder.check_finite("The average of the weights", self.learner.average.state_dict().values(), state)
        means = [value / state.step_in_epoch for value in self.group.sum(*state.loss_sum.tolist())]
        self.losses = dict(zip(LOSS_NAMES, means, strict=True))
        self._notify("on_train_epoch_end")
        self.row = self.recorder.save_epoch(state, self.losses, self._validate(), self.validator.objects)
        self._notify("on_model_save")
        state.epoch, state.step_in_epoch = state.epoch + 1, 0
        self.recorder.save_checkpoint(state)
        self.display.epoch(self.row, state)
        self._notify("on_fit_epoch_end")

    def _validate(self) -> dict[str, dict[str, float]]:
        """Measures the averaged weights; NaN in an epoch that is not validated."""
        done = self.state.epoch + 1
        if done % self.config.train.val_every and done != self.plan.epochs:
            return NOT_MEASURED
        self.recorder.save_checkpoint(self.state)  # a validation can take longer than a cluster's patience
        self._notify("on_val_start")
        self.evaluation = self.validator.measure(self.learner.average.model, self.learner.spec)
        self._notify("on_val_end")
        return self.evaluation.metrics

    def _notify(self, event: str) -> None:
        self.coordinator.notify(event, self)

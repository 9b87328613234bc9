# SPDX-License-Identifier: Apache-2.0
"""The training loop: plain PyTorch on Lightning Fabric (devices and precision), one page from top to bottom."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from centermask.config import Config
from centermask.data.dataset import Dataset
from centermask.data.loader import Batch, TrainingSet, training_loader
from centermask.data.training_steps import TrainingSteps
from centermask.evaluation.evaluate import Evaluation
from centermask.model.pretrained import WeightsReport, load_starting_weights
from centermask.model.weights import build_model, save_weights, spec_of
from centermask.training.callbacks import STEP_EVENTS, Callbacks
from centermask.training.checkpoint import checkpoint_of, restore
from centermask.training.distributed import Group, open_fabric, process_count
from centermask.training.ema import WeightAverage
from centermask.training.interrupt import DeferredInterrupt
from centermask.training.losses import Counts, Losses, centermask_losses, counts_of
from centermask.training.memory import peak_memory_gib
from centermask.training.preparation import check_datasets, check_scale, optimizer_of, runnable
from centermask.training.progress import TrainingDisplay
from centermask.training.run_folder import DataSource, RunFolder
from centermask.training.schedule import learning_rate
from centermask.training.validation import TrainingResult, Validator
from centermask_runtime.errors import CenterMaskError

CHECK_EVERY = 20  # steps between looks at the loss; each look waits for the device


class Trainer:
    """One training of one config on one data set in one run folder, of which this may be one of several processes."""

    def __init__(
        self,
        config: Config,
        train_set: Dataset,
        val_set: Dataset,
        run: RunFolder,
        *,
        device: str = "auto",
        devices: int | None = None,
        augmented: bool = True,
        display: TrainingDisplay | None = None,
    ) -> None:
        """device, devices: as in distributed.open_fabric. Starts the other processes, when all of it goes together."""
        check_datasets(train_set, val_set)
        self.config = config
        self.spec = spec_of(config, train_set.class_names, train_set.category_ids)
        self.fabric = open_fabric(device, config.train.precision, devices)
        self.samples = TrainingSet(train_set, config, augmented=augmented)
        processes = process_count(self.fabric)
        self.plan = TrainingSteps(self.samples, processes=processes)
        check_scale(config.train, self.fabric.device, processes)
        self.fabric.launch()
        self.group = Group(self.fabric)
        self.plan.rank = self.group.rank
        self.run = RunFolder(Path(self.group.from_main(str(run.path))))  # others may have found another name free
        self.display = display if display is not None and self.group.main else TrainingDisplay(quiet=True)
        self.callbacks, self.interrupt = Callbacks(), DeferredInterrupt(announce=self.group.main)
        self.validator = Validator(val_set, self.fabric.device, self.group, self.display, self.interrupt)
        torch.manual_seed(config.train.seed)
        self.model = build_model(config, self.spec.num_classes).to(self.fabric.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.average = WeightAverage(self.model, config.train.ema)
        optimizer = optimizer_of(self.model, config.train)
        self.wrapped, self.optimizer = self.fabric.setup(runnable(self.model, config.train, processes), optimizer)
        self.loader = training_loader(self.samples, self.plan, pin_memory=self.fabric.device.type == "cuda")
        self.epoch = self.batch = self.step = 0  # of the next step to take
        self.best_ap, self.best_epoch = -1.0, 0
        self.seconds = 0.0  # spent in training, all sessions together
        self.loss_sum = torch.zeros(len(Losses._fields), device=self.fabric.device)  # of this epoch's steps
        self.settled = True  # no step is half done
        self._step_error: CenterMaskError | None = None  # of a callback
        self.batches: list[Batch] = []  # the rest is for callbacks
        self.losses = Losses(*torch.full((len(Losses._fields),), math.nan))
        self.row: dict[str, float | int] = {}
        self.evaluation: Evaluation | None = None
        self.result: TrainingResult | None = None

    @property
    def total_steps(self) -> int:
        return self.plan.total_steps

    def make_run_folder(self, sources: tuple[DataSource, DataSource]) -> None:
        with self.group.together() as main:
            if main:
                self.run.start(self.config, sources)

    def start_from(self, path: Path) -> WeightsReport:
        """Takes the weights of a file that fit, for the average too. Raises ModelError."""
        with self.group.together():
            report = load_starting_weights(self.model, path)
        self.average.model.load_state_dict(self.model.state_dict())
        self.spec = dataclasses.replace(self.spec, provenance={**self.spec.provenance, "started_from": path.name})
        return report

    def resume(self) -> None:
        """Takes up the run where its checkpoint left it."""
        if self.group.main:
            self.run.remove_leftovers()
        with self.group.together():
            restore(self, self.run.load_checkpoint())

    def fit(self) -> TrainingResult:
        """Trains to the end. On Ctrl-C the step is finished and the state saved, then KeyboardInterrupt is raised."""
        with self.display, self.interrupt:
            self._tell("on_pretrain_routine_start")
            self.display.start(self.total_steps, self.step, self.fabric.device)
            self.plan.first_step = self.step
            source = iter(self.loader)
            self._tell("on_pretrain_routine_end")
            try:
                self._tell("on_train_start")
                while (self.step < self.total_steps or self.batch) and not self._gave_up():
                    self._train_epoch(source)
                    self._end_epoch()
                    self._look()
            except KeyboardInterrupt:
                if self.settled:
                    self._save_checkpoint()
                raise
            finally:
                del source  # ends the loader's workers
            self.result = self.validator.choose_threshold(self.run)
            self._tell("on_train_end")
            return self.result

    def _train_epoch(self, source: Iterator[Batch | CenterMaskError]) -> None:
        """The rest of the current epoch, none where only its validation was missing."""
        train = self.config.train
        self.model.train()
        if not self.batch:
            self.loss_sum.zero_()
        self._tell("on_train_epoch_start")
        started = time.monotonic()
        while self.batch < self.plan.steps_in(self.epoch):
            counts = self._fetch(source)
            self._tell("on_train_batch_start")
            values = self._train_step(counts)
            due = self.step % train.checkpoint_every == 0
            if due or self.step % CHECK_EVERY == 0 or self.batch == self.plan.steps_in(self.epoch):
                shown = self.group.sum(*values.tolist())
                self._check("The loss", torch.tensor(shown))
                self.seconds, started = self.seconds + time.monotonic() - started, time.monotonic()
                self.losses = Losses(*map(torch.tensor, shown))
                self.display.step(self.epoch, self.step, self.losses)
            if due:
                self._save_checkpoint()
            self._tell("on_train_batch_end")
            self._look()

    def _fetch(self, source: Iterator[Batch | CenterMaskError]) -> Counts:
        """This process's micro-batches of the next step; what the whole step's losses are averaged over."""
        found = [next(source) for _ in range(self.config.train.accumulate)]
        self.batches = [batch for batch in found if isinstance(batch, Batch)]
        error = next((batch for batch in found if isinstance(batch, CenterMaskError)), None)
        here = [sum(numbers) for numbers in zip(*map(counts_of, self.batches), strict=True)] or [0, 0]
        *counts, failed = self.group.sum(*here, error is not None)
        if failed:
            self.group.raise_first(error)
        return Counts(*counts)

    def _train_step(self, counts: Counts) -> Tensor:
        """One step of the optimizer; this process's part of the losses."""
        self.settled = False
        rate = learning_rate(self.step, self.total_steps, self.config.train)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        values = torch.zeros_like(self.loss_sum)
        for number, batch in enumerate(self.batches, start=1):
            batch = batch.to(self.fabric.device, non_blocking=True)
            wait = self.group.size > 1 and number < len(self.batches)
            with self.fabric.no_backward_sync(self.wrapped, enabled=wait):
                outputs = self.wrapped(batch.images, batch.image_index, batch.cells)
                losses = centermask_losses(outputs, batch, self.config.train.loss, counts)
                self.fabric.backward(losses.total * self.group.size)  # DDP takes the mean over the processes
            values += torch.stack([part.detach() for part in losses])
        self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=self.config.train.clip_norm,
            error_if_nonfinite=False,  # 16-mixed skips such a step; otherwise _check finds the NaN
        )  # fmt: skip
        self.optimizer.step()
        self.average.update(self.model)
        self.loss_sum += values
        self.batch, self.step, self.settled = self.batch + 1, self.step + 1, True
        return values

    def _end_epoch(self) -> None:
        """Validates and saves. Until that is done the epoch counts as running: a resumed run validates it again."""
        self._check("The average of the weights", *self.average.state_dict().values())
        means = [value / self.batch for value in self.group.sum(*self.loss_sum.tolist())]
        self.losses = Losses(*map(torch.tensor, means))
        self._tell("on_train_epoch_end")
        done = self.epoch + 1
        self.row = {
            "epoch": done,
            "step": self.step,
            "seconds": self.seconds,
            "memory_gib": peak_memory_gib(self.fabric.device),
            "lr": learning_rate(self.step - 1, self.total_steps, self.config.train),
            **{f"train/{name}": value for name, value in zip(Losses._fields, means, strict=True)},
        }
        metrics = {"bbox": {"AP": math.nan, "AP50": math.nan}, "segm": {"AP": math.nan, "AP50": math.nan}}
        if done % self.config.train.val_every == 0 or done == self.plan.epochs:
            self._save_checkpoint()  # a validation can take longer than a cluster's patience
            self._tell("on_val_start")
            self.evaluation = self.validator.measure(self.average.model, self.spec)
            metrics = self.evaluation.metrics
            self._tell("on_val_end")
        for kind in ("bbox", "segm"):
            self.row |= {f"val/{kind}_{name}": metrics[kind][name] for name in ("AP", "AP50")}
        with self.group.together() as main:
            if main:
                if metrics["segm"]["AP"] > self.best_ap:
                    save_weights(self.run.best, self.average.state_dict(), self.spec, self.config)
                save_weights(self.run.last, self.average.state_dict(), self.spec, self.config)
                self.run.append_results(self.row)
        if metrics["segm"]["AP"] > self.best_ap:
            self.best_ap, self.best_epoch = metrics["segm"]["AP"], done
        self._tell("on_model_save")
        self.epoch, self.batch = done, 0
        self._save_checkpoint()
        self.display.epoch(self.row)
        self._tell("on_fit_epoch_end")

    def _gave_up(self) -> bool:
        """Whether the mask AP has not risen for train.patience epochs."""
        patience = self.config.train.patience
        if not patience or self.epoch % self.config.train.val_every or self.epoch - self.best_epoch < patience:
            return False
        self.display.say(
            f"Stopped early: no better mask AP in {patience} epochs, the best was epoch {self.best_epoch}."
        )
        return True

    def _save_checkpoint(self) -> None:
        self._check("One of the weights", *self.model.state_dict().values())
        state = checkpoint_of(self)
        with self.group.together() as main:
            if main:
                self.run.save_checkpoint(state)

    def _check(self, what: str, *values: Tensor) -> None:
        if self.group.any(not all(bool(torch.isfinite(value).all()) for value in values)):
            last = self.run.last
            kept = f"the last good weights are {last}" if last.exists() else "no good weights were saved yet"
            full = self.config.train.precision == "32-true"
            advice = "lower train.lr" if full else "lower train.lr, or train with --set train.precision=32-true"
            self.group.raise_first(
                CenterMaskError(
                    f"{what} is not a number any more at step {self.step} (epoch {self.epoch + 1}), {kept}; {advice}."
                )
            )

    def _look(self) -> None:
        """Stops between two steps if this process, or another one, was asked to, or a step's callback failed."""
        asked, failed = self.group.sum(self.interrupt.asked, self._step_error is not None)
        if failed:
            self.group.raise_first(self._step_error)
        if asked:
            self.interrupt.stop()

    def _tell(self, event: str) -> None:
        if event in STEP_EVENTS:  # too often for the others to wait: they hear of an error when they look
            try:
                if self.group.main:
                    self.callbacks.run(event, self)
            except CenterMaskError as error:
                self._step_error = error
            return
        with self.group.together() as main:
            if main:
                self.callbacks.run(event, self)

# SPDX-License-Identifier: Apache-2.0
"""The training loop: plain PyTorch on Lightning Fabric (devices and precision), one page from top to bottom."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from centermask.config import Config, TrainConfig
from centermask.data.coco import CocoDataset
from centermask.data.loader import Batch, TrainingSet, training_loader
from centermask.evaluation.evaluate import choose_mask_threshold, evaluate
from centermask.model.losses import Losses, centermask_losses
from centermask.model.network import CenterMask
from centermask.model.torch_network import TorchNetwork
from centermask.model.weights import build_model, load_weights, save_weights, spec_of
from centermask.training.ema import WeightAverage
from centermask.training.interrupt import DeferredInterrupt
from centermask.training.progress import TrainingDisplay
from centermask.training.run_folder import RunFolder
from centermask.training.schedule import learning_rate
from centermask_runtime.errors import CenterMaskError, DataError, UsageError
from centermask_runtime.spec import ModelSpec

CHECK_EVERY = 20  # steps between looks at the loss; each look waits for the device


@dataclass(frozen=True)
class TrainingResult:
    spec: ModelSpec
    metrics: dict[str, dict[str, float]]  # of the best weights, at the chosen mask threshold
    mask_threshold_ap: dict[float, float]


class Trainer:
    """One training of one config on one data set in one run folder."""

    def __init__(
        self,
        config: Config,
        train_set: CocoDataset,
        val_set: CocoDataset,
        run: RunFolder,
        *,
        device: str = "auto",
        augmented: bool = True,
        display: TrainingDisplay | None = None,
    ) -> None:
        if val_set.category_ids != train_set.category_ids:
            raise DataError(
                f"{val_set.annotation_file} and {train_set.annotation_file} have different categories; "
                "training and validation need the same ones."
            )
        if not len(train_set):
            raise DataError(f"{train_set.annotation_file} has no image to train on.")
        if all(one.crowd for index in range(len(val_set)) for one in val_set.objects(index)):
            raise DataError(f"{val_set.annotation_file} has no object but crowds, so there is nothing to validate on.")
        torch.manual_seed(config.train.seed)
        self.config, self.run, self.val_set = config, run, val_set
        self.display = display or TrainingDisplay(quiet=True)
        self.interrupt = DeferredInterrupt()
        self.fabric = _fabric(device, config.train.precision)
        self.spec = spec_of(config, train_set.class_names, train_set.category_ids)
        self.model = build_model(config, self.spec.num_classes).to(self.fabric.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.average = WeightAverage(self.model, config.train.ema)
        self.wrapped, self.optimizer = self.fabric.setup(self.model, _optimizer(self.model, config.train))
        self.samples = TrainingSet(train_set, config, augmented=augmented)
        self.loader = training_loader(self.samples, pin_memory=self.fabric.device.type == "cuda")
        self.steps_an_epoch = len(self.loader)
        self.epoch = self.batch = self.step = 0  # of the next step to take
        self.best_ap = -1.0
        self.seconds = 0.0  # spent in training, all sessions together

    @property
    def total_steps(self) -> int:
        return self.steps_an_epoch * self.config.train.epochs

    def resume(self) -> None:
        """Takes up the run where its checkpoint left it."""
        state: dict[str, Any] = self.run.load_checkpoint()
        if state["config"] != self.config.to_yaml():
            raise CenterMaskError(f"{self.run.path} was started with another config; resume it with its own args.yaml.")
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.average.steps = state["step"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state.get("precision", {}))
        self.epoch, self.batch, self.step = state["epoch"], state["batch"], state["step"]
        self.best_ap, self.seconds = state["best_ap"], state["seconds"]

    def fit(self) -> TrainingResult:
        """Trains to the end. On Ctrl-C the step is finished and the state saved, then KeyboardInterrupt is raised."""
        with self.display, self.interrupt:
            self.display.start(self.total_steps, self.step)
            try:
                while self.epoch < self.config.train.epochs:
                    self._end_epoch(self._train_epoch())
                    self.interrupt.look()
            except KeyboardInterrupt:
                self._save_checkpoint()
                raise
            return self._finish()

    def _train_epoch(self) -> Losses:
        """The rest of the current epoch; mean losses of the steps taken, NaN where only its validation was missing."""
        self.samples.set_epoch(self.epoch, skip=self.batch * self.config.train.batch)
        self.model.train()
        started, since_check, first = time.monotonic(), 0, self.batch
        total = torch.zeros(len(Losses._fields), device=self.fabric.device)
        for batch in self.loader:
            if isinstance(batch, CenterMaskError):
                raise batch
            assert isinstance(batch, Batch)
            losses = self._train_step(batch.to(self.fabric.device, non_blocking=True))
            values = torch.stack([part.detach() for part in losses])
            total += values
            self.batch, self.step, since_check = self.batch + 1, self.step + 1, since_check + 1
            if since_check == CHECK_EVERY or self.batch == self.steps_an_epoch:
                self._check("The loss", values)
                self.seconds, started = self.seconds + time.monotonic() - started, time.monotonic()
                self.display.step(self.epoch, self.step, Losses(*values.tolist()))
                since_check = 0
            self.interrupt.look()
        return Losses(*(total / (self.batch - first)))

    def _train_step(self, batch: Batch) -> Losses:
        rate = learning_rate(self.step, self.total_steps, self.config.train)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        outputs = self.wrapped(batch.images, batch.image_index, batch.cells)
        losses = centermask_losses(outputs, batch, self.config.train.loss)
        self.optimizer.zero_grad()
        self.fabric.backward(losses.total)
        self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=self.config.train.clip_norm,
            error_if_nonfinite=False,  # 16-mixed skips such a step; otherwise _check finds the NaN
        )  # fmt: skip
        self.optimizer.step()
        self.average.update(self.model)
        return losses

    def _check(self, what: str, *values: Tensor) -> None:
        if not all(bool(torch.isfinite(value).all()) for value in values):
            last = self.run.last
            kept = f"the last good weights are {last}" if last.exists() else "no good weights were saved yet"
            raise CenterMaskError(
                f"{what} is not a number any more at step {self.step} (epoch {self.epoch + 1}), {kept}; "
                "lower train.lr, or train with --set train.precision=32-true."
            )

    def _end_epoch(self, losses: Losses) -> None:
        """Validates and saves. Until that is done the epoch counts as running: a resumed run validates it again."""
        self._check("The average of the weights", *self.average.state_dict().values())
        done = self.epoch + 1
        row: dict[str, float | int] = {
            "epoch": done,
            "step": self.step,
            "seconds": self.seconds,
            "lr": learning_rate(self.step - 1, self.total_steps, self.config.train),
            **{f"train/{name}": float(value) for name, value in losses._asdict().items()},
        }
        metrics = {"bbox": {"AP": math.nan, "AP50": math.nan}, "segm": {"AP": math.nan, "AP50": math.nan}}
        if done % self.config.train.val_every == 0 or done == self.config.train.epochs:
            network = TorchNetwork(self.average.model, self.spec)
            metrics = evaluate(network, self.val_set, progress=self._watched).metrics
        for kind in ("bbox", "segm"):
            row |= {f"val/{kind}_{name}": metrics[kind][name] for name in ("AP", "AP50")}
        if metrics["segm"]["AP"] > self.best_ap:
            self.best_ap = metrics["segm"]["AP"]
            save_weights(self.run.best, self.average.state_dict(), self.spec, self.config)
        save_weights(self.run.last, self.average.state_dict(), self.spec, self.config)
        self.run.append_results(row)
        self.epoch, self.batch = done, 0
        self._save_checkpoint()
        self.display.epoch(row)

    def _save_checkpoint(self) -> None:
        self.run.save_checkpoint(
            {
                "config": self.config.to_yaml(),
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),  # the loss scale of 16-mixed
                "epoch": self.epoch,
                "batch": self.batch,
                "step": self.step,
                "best_ap": self.best_ap,
                "seconds": self.seconds,
            }
        )

    def _finish(self) -> TrainingResult:
        """Chooses the mask threshold on the validation set and writes it into the spec of both weights files."""
        model, spec, _ = load_weights(self.run.best)
        model = model.to(self.fabric.device)
        threshold, table = choose_mask_threshold(TorchNetwork(model, spec), self.val_set, progress=self._watched)
        for path in (self.run.last, self.run.best):
            model, spec, config = load_weights(path)
            spec = dataclasses.replace(spec, mask_threshold=threshold)
            save_weights(path, model.state_dict(), spec, config)
        network = TorchNetwork(model.to(self.fabric.device), spec)
        metrics = evaluate(network, self.val_set, progress=self._watched).metrics
        return TrainingResult(spec, metrics, table)

    def _watched(self, indices: Iterator[int], count: int, title: str) -> Iterator[int]:
        """A loop over images that shows itself and stops on Ctrl-C."""
        for index in self.display.wrap(indices, count, title):
            self.interrupt.look()
            yield index


def _fabric(device: str, precision: str) -> Fabric:
    gpu = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not gpu:
        raise UsageError("--device cuda needs a GPU, but PyTorch finds none here; use --device cpu.")
    if precision == "16-mixed" and not gpu:  # Fabric would take bf16-mixed instead
        raise UsageError("train.precision 16-mixed needs a GPU; use bf16-mixed or 32-true.")
    return Fabric(accelerator=device, devices=1, precision=precision)  # type: ignore[arg-type]


def _optimizer(model: CenterMask, config: TrainConfig) -> torch.optim.Optimizer:
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)

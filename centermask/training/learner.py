# SPDX-License-Identifier: Apache-2.0
"""Learner: the model, its average and its optimizer on their device, and the step that changes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from centermask.config import Config
from centermask.data.loader import Batch
from centermask.model.network import TrainingOutputs, build_model
from centermask.model.pretrained import WeightsReport, load_starting_weights
from centermask.model.weights import save_weights
from centermask.training.distillation import distillation_loss, open_teacher
from centermask.training.ema import WeightAverage
from centermask.training.freezing import freeze
from centermask.training.losses import LOSS_NAMES, Counts, Losses, centermask_losses
from centermask.training.optimizer import learning_rate, make_optimizer, set_rate, slow_down
from centermask_runtime.spec import ModelSpec


class Learner:
    """What a training changes from step to step; each of its processes has one, with the same weights."""

    def __init__(self, config: Config, spec: ModelSpec, fabric: Fabric, total_steps: int) -> None:
        """Makes the model with weights that depend on train.seed alone. Raises UsageError or ModelError.

        fabric: a launched one. total_steps: those of the training, which the learning rate depends on.
        """
        self.config = config
        self.total_steps = total_steps
        self.spec = spec  # of the weights
        self.fabric = fabric
        torch.manual_seed(config.train.seed)
        self.model = build_model(config, spec.num_classes).to(fabric.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.frozen = freeze(self.model, config.model)
        self.teacher = open_teacher(config, spec, fabric.device)
        if self.teacher is not None:
            self.spec = dataclasses.replace(spec, provenance={**spec.provenance, "distilled_from": self.teacher.name})
        self.average = WeightAverage(self.model, config.train.ema)
        optimizer = make_optimizer(self.model, config.train)
        self._network, self.optimizer = fabric.setup(self._trainable(), optimizer)

    @property
    def has_starting_weights(self) -> bool:
        return "started_from" in self.spec.provenance

    def to_train_mode(self) -> None:
        """Lets batch norms learn from the batches, but for those of frozen levels."""
        self.model.train()
        for level in self.frozen.levels:
            level.eval()

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        return learning_rate(step, self.total_steps, self.config.train)

    def step(self, step: int, batches: Sequence[Batch], counts: Counts) -> Tensor:
        """Takes a step of the optimizer. Returns this process's part of its losses, [7] as LOSS_NAMES, on the device.

        step: counted from 0. batches: this process's micro-batches. counts: of the whole step, all processes together.
        """
        set_rate(self.optimizer, self.rate(step))
        self.optimizer.zero_grad()
        sums = torch.zeros(len(LOSS_NAMES), device=self.fabric.device)
        for number, batch in enumerate(batches, start=1):
            batch = batch.to(self.fabric.device, non_blocking=True)
            more_to_come = self.fabric.world_size > 1 and number < len(batches)
            with self.fabric.no_backward_sync(self._network, enabled=more_to_come):
                outputs = self._network(batch.images, batch.image_index, batch.cells)
                losses = self._losses(outputs, batch, counts)
                self.fabric.backward(losses.total * self.fabric.world_size)  # DDP takes the mean over the processes
            sums += torch.stack([part.detach() for part in losses])
        self.fabric.clip_gradients(
            self._network, self.optimizer, max_norm=self.config.train.clip_norm,
            error_if_nonfinite=False,  # 16-mixed skips such a step; otherwise the trainer finds the NaN
        )  # fmt: skip
        self.optimizer.step()
        self.average.update(self.model, step)
        return sums

    def _losses(self, outputs: TrainingOutputs, batch: Batch, counts: Counts) -> Losses:
        train = self.config.train
        losses = centermask_losses(outputs, batch, train.loss, counts)
        if self.teacher is None:
            return losses
        with self.fabric.autocast():
            soft = self.teacher.targets(batch.images)
        taught = train.distill_weight * distillation_loss(outputs, soft, batch, train.loss, counts)
        return losses._replace(total=losses.total + taught, distill=taught)

    def start_from(self, path: Path, origin: str) -> WeightsReport:
        """Takes the weights of a file that fit, for the average too. Raises ModelError."""
        report = load_starting_weights(self.model, path)
        slow_down(self.optimizer, report.used, self.model, self.config.train.started_lr)
        self.average.model.load_state_dict(self.model.state_dict())
        self.spec = dataclasses.replace(self.spec, provenance={**self.spec.provenance, "started_from": origin})
        return report

    def save_average(self, path: Path) -> None:
        """Writes the weights file that is validated and shipped."""
        save_weights(path, self.average.state_dict(), self.spec, self.config)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),  # the loss scale of 16-mixed
            "provenance": self.spec.provenance,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what state_dict gave. Raises KeyError that names what is missing."""
        self.model.load_state_dict(state["model"])
        self.average.model.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.spec = dataclasses.replace(self.spec, provenance=state["provenance"])

    def _trainable(self) -> nn.Module:
        """Prepares the model for its steps, as train.sync_bn, train.recompute and train.compile want it."""
        train = self.config.train
        self.model.base.recompute = train.recompute
        if train.sync_bn and self.fabric.world_size > 1:
            nn.SyncBatchNorm.convert_sync_batchnorm(self.model)  # type: ignore[no-untyped-call]  # in place
        return torch.compile(self.model) if train.compile else self.model  # type: ignore[return-value]

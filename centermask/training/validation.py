# SPDX-License-Identifier: Apache-2.0
"""Validation during a training and at its end, where the mask threshold is chosen; the processes share the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from centermask.data.dataset import Dataset
from centermask.evaluation.evaluate import Evaluation, Share, choose_mask_threshold, evaluate
from centermask.model.network import CenterMaskNet
from centermask.model.torch_network import TorchNetwork
from centermask.model.weights import load_weights, save_weights
from centermask.training.distributed import Group
from centermask.training.interrupt import DeferredInterrupt
from centermask.training.progress import TrainingDisplay
from centermask.training.run_folder import RunFolder
from centermask_runtime.spec import ModelSpec


@dataclass(frozen=True)
class TrainingResult:
    spec: ModelSpec
    metrics: dict[str, dict[str, float]]  # of the best weights, at the chosen mask threshold
    mask_threshold_ap: dict[float, float]
    results: list[dict[str, Any]]  # COCO results that metrics are of


@dataclass(frozen=True)
class Validator:
    dataset: Dataset
    device: torch.device
    group: Group
    display: TrainingDisplay
    interrupt: DeferredInterrupt

    @property
    def _share(self) -> Share:
        return Share(self.group.rank, self.group.size, self.group.join, self.group.together)

    def measure(self, model: CenterMaskNet, spec: ModelSpec) -> Evaluation:
        """AP of the averaged weights, the same for each process."""
        self.group.same_buffers(model)
        return evaluate(TorchNetwork(model, spec), self.dataset, progress=self._watched, share=self._share)

    def choose_threshold(self, run: RunFolder) -> TrainingResult:
        """Chooses the mask threshold on the best weights and writes it into the spec of both weights files."""
        model, spec, config = load_weights(run.best)
        model = model.to(self.device)
        network = TorchNetwork(model, spec)
        threshold, table = choose_mask_threshold(network, self.dataset, progress=self._watched, share=self._share)
        with self.group.together() as main:
            for path in (run.last, run.best) if main else ():
                weights, spec, config = load_weights(path)
                spec = dataclasses.replace(spec, mask_threshold=threshold)
                save_weights(path, weights.state_dict(), spec, config)
        spec = dataclasses.replace(spec, mask_threshold=threshold)
        evaluation = self.measure(model, spec)
        return TrainingResult(spec, evaluation.metrics, table, evaluation.results)

    def _watched(self, indices: Iterator[int], count: int, title: str) -> Iterator[int]:
        """A loop over images that shows itself and stops on Ctrl-C; several processes stop together, after it."""
        for index in self.display.wrap(indices, count, title):
            if self.group.size == 1:
                self.interrupt.look()
            yield index

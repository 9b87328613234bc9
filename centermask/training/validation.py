# SPDX-License-Identifier: Apache-2.0
"""Validation during a training and at its end, where the mask threshold is chosen. The processes share the images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from centermask.data.dataset import Dataset
from centermask.evaluation.evaluate import Evaluation, Share, choose_mask_threshold, evaluate, threshold_images
from centermask.model.network import CenterMaskNet
from centermask.model.torch_network import TorchNetwork
from centermask.model.weights import load_weights, save_weights
from centermask.training.best import NOTHING
from centermask.training.distributed import Group
from centermask.training.progress import TrainingDisplay
from centermask.training.run_folder import RunFolder
from centermask_runtime.errors import DataError, counted
from centermask_runtime.interrupt import DeferredInterrupt
from centermask_runtime.spec import ModelSpec

TRIAL_STEPS = 100
NOT_MEASURED = {kind: {"AP": math.nan, "AP50": math.nan} for kind in ("bbox", "segm")}


@dataclass(frozen=True)
class TrainingResult:
    """What a training has come to: the best weights, measured on the validation set at the chosen mask threshold."""

    run: RunFolder  # run.best and run.last are the weights files
    spec: ModelSpec
    metrics: dict[str, dict[str, float]]  # "bbox" and "segm" -> "AP", "AP50", ...
    mask_threshold_ap: dict[float, float]  # mask AP at each threshold that was tried
    results: list[dict[str, Any]]  # COCO results that metrics are of
    val_set: str  # its annotation file
    steps: int  # that were taken

    @property
    def found_nothing(self) -> bool:
        return not self.metrics["segm"]["AP"] >= NOTHING

    @property
    def is_trial(self) -> bool:
        """Whether the run was too short for anybody to expect a model of it."""
        return self.steps < TRIAL_STEPS

    @property
    def doubt(self) -> str | None:
        """A sentence where the weights are of no use."""
        if not self.found_nothing:
            return None
        return (
            f"The best weights find nothing in {self.val_set}, mask AP {self.metrics['segm']['AP']:.3f} and box AP "
            f"{self.metrics['bbox']['AP']:.3f} after {counted(self.steps, 'step')}: start from other weights, train "
            "longer, and look whether the run's train_targets pictures show your objects."
        )


def check_datasets(train_set: Dataset, val_set: Dataset) -> None:
    """Raises DataError unless one can be trained on and the other validated on."""
    train, val = (set(zip(one.category_ids, one.class_names, strict=True)) for one in (train_set, val_set))
    if train != val:
        number, name = min(train ^ val)
        raise DataError(
            f"{val_set.annotation_file} and {train_set.annotation_file} have different categories, {number} '{name}' "
            "is in one of them only; training and validation need the same ids with the same names."
        )
    if not len(train_set):
        raise DataError(f"{train_set.annotation_file} has no image to train on.")
    if all(one.crowd for index in range(len(val_set)) for one in val_set.objects(index)):
        raise DataError(f"{val_set.annotation_file} has no object but crowds, so there is nothing to validate on.")


@dataclass(frozen=True)
class Validator:
    """Measures weights on the validation set, the same in each process."""

    dataset: Dataset
    device: torch.device
    group: Group
    display: TrainingDisplay
    interrupt: DeferredInterrupt

    @cached_property
    def objects(self) -> int:
        """How many objects AP is computed on."""
        return sum(not one.crowd for image in self.dataset.annotations for one in image)

    @property
    def _share(self) -> Share:
        return Share(self.group.rank, self.group.size, self.group.join, self.group.together)

    def measure(self, model: CenterMaskNet, spec: ModelSpec) -> Evaluation:
        """Computes the AP of a model through the pipeline that users run."""
        self.group.share_buffers(model)
        return evaluate(TorchNetwork(model, spec), self.dataset, progress=self._watched, share=self._share)

    def choose_threshold(self, run: RunFolder, steps: int) -> TrainingResult:
        """Chooses the mask threshold on the best weights and writes it into the spec of both weights files."""
        self.interrupt.doing("Stopping now: all steps are done and saved.")
        model, spec, config = load_weights(run.best)
        model = model.to(self.device)
        network = TorchNetwork(model, spec)
        count = len(threshold_images(self.dataset))
        self.display.say(f"Choosing the mask threshold on {counted(count, 'image')}.")
        threshold, table = choose_mask_threshold(network, self.dataset, progress=self._watched, share=self._share)
        with self.group.together() as main:
            for path in (run.last, run.best) if main else ():
                weights, spec, config = load_weights(path)
                spec = dataclasses.replace(spec, mask_threshold=threshold)
                save_weights(path, weights.state_dict(), spec, config)
        spec = dataclasses.replace(spec, mask_threshold=threshold)
        evaluation = self.measure(model, spec)
        val_set = str(self.dataset.annotation_file)
        return TrainingResult(run, spec, evaluation.metrics, table, evaluation.results, val_set, steps)

    def _watched(self, indices: Iterator[int], count: int, title: str) -> Iterator[int]:
        """Shows a loop over images, and stops it on Ctrl-C; several processes stop together, after it."""
        for index in self.display.wrap(indices, count, title):
            if self.group.size == 1:
                self.interrupt.poll()
            yield index

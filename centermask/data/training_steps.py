# SPDX-License-Identifier: Apache-2.0
"""TrainingSteps: which samples make up which step of the training, and which of them are this process's.

A step takes train.batch images, however many processes share them and in however many micro-batches; so a config gives
the same training on one GPU as on eight. The order depends on (seed, epoch) alone: a resumed training goes on as if it
had never stopped, also on another number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from centermask.data.loader import TrainingSet
from centermask.data.sampling import Draw, canvas_sizes, epoch_draws, epoch_length, repeat_factors
from centermask_runtime.errors import DataError, UsageError


class TrainingSteps(Sampler[list[Draw]]):
    """The micro-batches of one of `processes` processes, from a step to the end of the training, across its epochs.

    A last, smaller batch of an epoch is dropped unless it is the only one. Raises UsageError or DataError when the
    images cannot be shared.
    """

    def __init__(self, samples: TrainingSet, *, rank: int = 0, processes: int = 1) -> None:
        self.samples = samples
        self.rank = rank  # of this process, 0 .. processes - 1
        dataset, train = samples.dataset, samples.config.train
        self._parts = processes * train.accumulate
        self._factors = np.ones(len(dataset))
        self._sizes = [samples.config.canvas_hw]
        if samples.augmented and train.repeat_threshold:
            self._factors = repeat_factors([dataset.labels(i) for i in range(len(dataset))], train.repeat_threshold)
        multiple = samples.config.model.size_multiple
        if samples.augmented and train.multi_scale:
            self._sizes = canvas_sizes(samples.config.canvas_hw, train.multi_scale, multiple)
            if len(self._sizes) == 1:
                raise UsageError(
                    f"train.multi_scale {train.multi_scale} leaves {max(samples.config.canvas_hw)} pixels the only "
                    f"multiple of {multiple} within reach; make it larger, or 0."
                )
        images = epoch_length(self._factors)
        sharing = f"train.accumulate {train.accumulate}"
        if processes > 1:
            sharing = f"{processes} processes with {sharing}"
        if train.batch % self._parts:
            raise UsageError(
                f"train.batch {train.batch} cannot be shared evenly by {sharing}; make it a multiple of {self._parts}."
            )
        if images < self._parts:
            raise DataError(f"{dataset.annotation_file} has {images} images, too few for {sharing}; use fewer.")
        alone = min(train.batch, images) // self._parts == 1 and not (train.sync_bn and processes > 1)
        if alone and min(max(size) for size in self._sizes) == multiple:
            raise UsageError(
                f"Images of {multiple} x {multiple} pixels one by one are a single value to the coarsest batch norms, "
                "which cannot learn from that; make the images larger, or train.batch, or train.accumulate smaller."
            )
        self.steps_an_epoch = max(images // train.batch, 1)
        self.total_steps = train.steps or samples.epochs * self.steps_an_epoch
        self.epochs = -(-self.total_steps // self.steps_an_epoch)
        samples.epochs = self.epochs
        augment = train.augment
        if samples.augmented and (augment.mosaic or augment.copy_paste) and augment.close_mosaic >= self.epochs:
            raise UsageError(
                f"train.augment.close_mosaic {augment.close_mosaic} leaves none of {self.epochs} epochs to mosaic and "
                "copy-paste; lower it, or set both to 0."
            )
        self.first_step = 0  # of the next iteration

    def steps_in(self, epoch: int) -> int:
        """The last epoch is shorter where train.steps ends inside it."""
        return min(self.steps_an_epoch, self.total_steps - epoch * self.steps_an_epoch)

    def __len__(self) -> int:
        return (self.total_steps - self.first_step) * self.samples.config.train.accumulate

    def __iter__(self) -> Iterator[list[Draw]]:
        train = self.samples.config.train
        draws: list[Draw] = []
        for step in range(self.first_step, self.total_steps):
            epoch, within = divmod(step, self.steps_an_epoch)
            if not draws or not within:
                draws = epoch_draws(self._factors, train.seed, epoch, train.batch, self._sizes)
            batch = draws[within * train.batch : (within + 1) * train.batch]
            edges = [len(batch) * part // self._parts for part in range(self._parts + 1)]
            for part in range(self.rank * train.accumulate, (self.rank + 1) * train.accumulate):
                yield batch[edges[part] : edges[part + 1]]

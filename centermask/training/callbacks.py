# SPDX-License-Identifier: Apache-2.0
"""Functions that a training calls at its turning points, under Ultralytics' event names.

With several processes they are called on the first one only, so they must not start a collective operation. What one
of them raises ends the training; a CenterMaskError ends the other processes as well, at the events of a step as soon
as the step is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from centermask.config import Config
from centermask.data.dataset import Dataset
from centermask.data.loader import Batch, TrainingSet
from centermask.evaluation.evaluate import Evaluation
from centermask.training.learner import Learner
from centermask.training.run_folder import Row, RunFolder
from centermask.training.state import TrainingState
from centermask.training.validation import TrainingResult
from centermask_runtime.errors import UsageError, did_you_mean

EVENTS = (
    "on_pretrain_routine_start",  # in fit(), before anything else; also of a resumed run
    "on_pretrain_routine_end",  # the workers of the loader are started
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",  # training.batches are this step's
    "on_train_batch_end",  # after the optimizer's step; training.state.step counts it
    "on_train_epoch_end",  # all steps of the epoch are taken; before its validation
    "on_val_start",
    "on_val_end",  # training.evaluation is this validation's
    "on_model_save",  # results.csv, weights/last and, if it was the best, weights/best are on the disk
    "on_fit_epoch_end",  # the checkpoint is on the disk, too
    "on_train_end",  # all epochs are done and the mask threshold is chosen: training.result
)

STEP_EVENTS = ("on_train_batch_start", "on_train_batch_end")


class Training(Protocol):
    """What a callback may read of a training. The Trainer is one."""

    config: Config
    run: RunFolder
    samples: TrainingSet  # samples.dataset is the training set
    val_set: Dataset
    learner: Learner  # the model, its ModelSpec, its average and its optimizer
    state: TrainingState  # epoch, step, best_ap, ...
    batches: list[Batch]  # of the step: one for each micro-batch of the first process, on the CPU
    losses: dict[str, float]  # of the last step that was looked at (at least each 20th), all processes together; NaN
    # before the first; from on_train_epoch_end to the next look the epoch's mean
    row: Row  # the line of results.csv for the last epoch
    evaluation: Evaluation | None  # the last validation
    result: TrainingResult | None


Callback = Callable[[Training], None]


class Callbacks:
    """Lists of functions, called in the order in which they were added."""

    def __init__(self) -> None:
        self._functions: dict[str, list[Callback]] = {event: [] for event in EVENTS}

    def add(self, event: str, function: Callback) -> None:
        """Raises UsageError that names the nearest event."""
        if event not in self._functions:
            raise UsageError(f"There is no training event '{event}'; {did_you_mean(event, EVENTS)}")
        self._functions[event].append(function)

    def run(self, event: str, training: Training) -> None:
        for function in self._functions[event]:
            function(training)

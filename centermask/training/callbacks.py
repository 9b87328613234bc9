# SPDX-License-Identifier: Apache-2.0
"""Functions that a training calls at its turning points, under Ultralytics' event names.

Each gets the Trainer and reads what it wants of it: config, run, spec, epoch, step, batches (of the step), losses, row
(a line of results.csv), evaluation (the last validation) and best_ap. `losses` are those of the last step that was
looked at (each 20th and each epoch's last; NaN before the first), and from on_train_epoch_end until the next look the
epoch's mean.

With several processes the functions are called on the first one only, so they must not start a collective operation;
`losses` are the whole step's, all processes together, and `batches` the first one's. What one raises ends the training;
a CenterMaskError ends the other processes as well, at the events of a step as soon as the step is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from centermask_runtime.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from centermask.training.trainer import Trainer

EVENTS = (
    "on_pretrain_routine_start",  # in fit(), before anything else; also of a resumed run
    "on_pretrain_routine_end",  # the loader is made: trainer.samples and trainer.loader can be looked at
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",  # trainer.batches are this step's, one for each micro-batch, on the CPU
    "on_train_batch_end",  # after the optimizer's step; trainer.step counts it
    "on_train_epoch_end",  # all steps of the epoch are taken; before its validation
    "on_val_start",
    "on_val_end",  # trainer.evaluation is this validation's
    "on_fit_epoch_end",  # trainer.row is complete and in results.csv
    "on_model_save",  # weights/last and, if it was the best, weights/best are on the disk
    "on_train_end",  # all epochs are done and the mask threshold is chosen: trainer.result
)

STEP_EVENTS = ("on_train_batch_start", "on_train_batch_end")

Callback = Callable[["Trainer"], None]


class Callbacks:
    """Lists of functions, called in the order in which they were added."""

    def __init__(self) -> None:
        self._functions: dict[str, list[Callback]] = {event: [] for event in EVENTS}

    def add(self, event: str, function: Callback) -> None:
        """Raises UsageError that names the nearest event."""
        if event not in self._functions:
            raise UsageError(f"There is no training event '{event}'; {did_you_mean(event, EVENTS)}")
        self._functions[event].append(function)

    def run(self, event: str, trainer: Trainer) -> None:
        for function in self._functions[event]:
            function(trainer)

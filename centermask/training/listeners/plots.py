# SPDX-License-Identifier: Apache-2.0
"""The pictures of a run folder, drawn by a listener of the training's events."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from centermask.evaluation.pictures import encode
from centermask.evaluation.report import write_report
from centermask.training.callbacks import Callbacks
from centermask.training.listeners.batches import draw_batch, draw_targets
from centermask.training.listeners.labels import draw_labels
from centermask.training.listeners.results import draw_results
from centermask_runtime.partial_file import write_whole

if TYPE_CHECKING:
    from centermask.training.trainer import Trainer

BATCHES = 3  # the first ones of a training are drawn
PATIENCE_S = 30.0  # between two drawings of results.png


def add_plots(callbacks: Callbacks, clock: Callable[[], float] = time.monotonic) -> None:
    """labels.jpg and train_batch*.jpg at the beginning, results.png all along, the files of write_report at the end."""
    drawn_at = -float("inf")

    def labels(trainer: Trainer) -> None:
        if not trainer.step:
            draw_labels(trainer.samples.dataset, trainer.run.path / "labels.jpg", trainer.config.input.size)

    def batches(trainer: Trainer) -> None:
        if trainer.step >= BATCHES:
            return
        batch, folder = trainer.batches[0], trainer.run.path
        picture = draw_batch(batch, trainer.spec.class_names)
        write_whole(folder / f"train_batch{trainer.step}.jpg", encode(picture, ".jpg"))
        write_whole(folder / f"train_targets{trainer.step}.jpg", encode(draw_targets(batch), ".jpg"))

    def results(trainer: Trainer) -> None:
        nonlocal drawn_at
        if clock() - drawn_at >= PATIENCE_S:
            draw_results(trainer.run.results, trainer.run.path / "results.png")
            drawn_at = clock()

    def end(trainer: Trainer) -> None:
        draw_results(trainer.run.results, trainer.run.path / "results.png")
        assert trainer.result is not None
        write_report(trainer.run.path, trainer.validator.dataset, trainer.result.results, trainer.spec.max_detections)

    callbacks.add("on_pretrain_routine_end", labels)
    callbacks.add("on_train_batch_start", batches)
    callbacks.add("on_fit_epoch_end", results)
    callbacks.add("on_train_end", end)

# SPDX-License-Identifier: Apache-2.0
"""A listener that draws the pictures of a run folder, each when there is something new to see on it."""

from __future__ import annotations

import time
from collections.abc import Callable

from centermask.evaluation.pictures import encode
from centermask.evaluation.report import write_report
from centermask.training.callbacks import Callbacks, Training
from centermask.training.listeners.batches import draw_batch, draw_targets
from centermask.training.listeners.labels import draw_labels
from centermask.training.listeners.results import draw_results
from centermask_runtime.partial_file import write_whole

BATCHES = 3  # the first ones of a training are drawn
PATIENCE_S = 30.0  # between two drawings of results.png


def add_plots(callbacks: Callbacks, clock: Callable[[], float] = time.monotonic) -> None:
    """Adds the listener, which draws into the run folder of the training:

    labels.jpg, train_batch*.jpg and train_targets*.jpg at the beginning, results.png all along, and at the end the
    files of evaluation.report.write_report. `clock` gives seconds.
    """
    drawn_at = -float("inf")

    def labels(training: Training) -> None:
        if not training.state.step:
            draw_labels(training.samples.dataset, training.run.path / "labels.jpg", training.config.input.size)

    def batches(training: Training) -> None:
        if training.state.step >= BATCHES:
            return
        batch, folder = training.batches[0], training.run.path
        picture = draw_batch(batch, training.learner.spec.class_names)
        write_whole(folder / f"train_batch{training.state.step}.jpg", encode(picture, ".jpg"))
        write_whole(folder / f"train_targets{training.state.step}.jpg", encode(draw_targets(batch), ".jpg"))

    def results(training: Training) -> None:
        nonlocal drawn_at
        if clock() - drawn_at >= PATIENCE_S:
            draw_results(training.run.results, training.run.path / "results.png")
            drawn_at = clock()

    def end(training: Training) -> None:
        draw_results(training.run.results, training.run.path / "results.png")
        assert training.result is not None
        write_report(training.run.path, training.val_set, training.result.results, training.learner.spec.max_detections)

    callbacks.add("on_pretrain_routine_end", labels)
    callbacks.add("on_train_batch_start", batches)
    callbacks.add("on_fit_epoch_end", results)
    callbacks.add("on_train_end", end)

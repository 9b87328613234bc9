# SPDX-License-Identifier: Apache-2.0
"""The pictures of a run: which ones there are, and how often they are drawn."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest

from centermask.training.callbacks import Callbacks
from centermask.training.listeners.plots import add_plots
from centermask.training.run_folder import RunFolder


@pytest.mark.slow
def test_a_run_folder_has_its_pictures(trained):
    names = {path.name for path in trained.iterdir() if path.suffix in (".png", ".jpg")}
    assert names == {
        "labels.jpg", "results.png", "train_batch0.jpg", "train_batch1.jpg", "train_batch2.jpg", "train_targets0.jpg",
        "train_targets1.jpg", "train_targets2.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg", "box_PR_curve.png",
        "box_F1_curve.png", "mask_PR_curve.png", "mask_F1_curve.png", "confusion_matrix.png",
    }  # fmt: skip
    for name in names:
        assert cv2.imread(str(trained / name)).std() > 5, name


def test_results_are_not_drawn_more_often_than_anyone_looks(monkeypatch):
    """Small trainings have epochs of a second; a drawing takes as long."""
    from centermask.training.listeners import plots as watch

    drawn: list[Path] = []
    monkeypatch.setattr(watch, "draw_results", lambda table, picture: drawn.append(picture))
    times = [100.0, 110.0, 129.0, 131.0, 140.0]
    callbacks, clock = Callbacks(), [0.0]
    add_plots(callbacks, clock=lambda: clock[0])

    class Run:
        run = RunFolder(Path("x"))

    for clock[0] in times:
        callbacks.run("on_fit_epoch_end", Run())
    assert len(drawn) == 2

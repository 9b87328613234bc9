# SPDX-License-Identifier: Apache-2.0
"""TensorBoard gets the columns of results.csv, and the pictures; a resumed run leaves nothing behind that was lost."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import pytest
import torch

from centermask.config import Config
from centermask.training.callbacks import Callbacks
from centermask.training.listeners.tensorboard_events import add_tensorboard
from centermask.training.run_folder import RunFolder
from centermask.training.state import TrainingState


@pytest.mark.slow
def test_tensorboard_has_the_columns_of_the_results(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained), size_guidance={"images": 0})
    events.Reload()
    with (trained / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("lr", "train/total", "val/segm_AP"):
        scalars = events.Scalars(name)
        assert [one.step for one in scalars] == [int(row["step"]) for row in rows]
        assert [one.value for one in scalars] == pytest.approx([float(row[name]) for row in rows], rel=1e-4)
    assert {"train_batch0", "val_batch0_pred", "mask_PR_curve"} <= set(events.Tags()["images"])


def test_tensorboard_keeps_the_last_epoch_of_a_resumed_run_and_drops_what_was_lost(tmp_path):
    """The checkpoint of step 20 is resumed; what came after it is taken again."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def session(start: int, *values: tuple[int, float]) -> None:
        state = TrainingState(torch.zeros(6), step=start)
        training = SimpleNamespace(run=RunFolder(tmp_path), state=state, config=Config("x"), row={})
        callbacks = Callbacks()
        add_tensorboard(callbacks)
        callbacks.run("on_train_start", training)
        for state.step, value in values:
            training.row = {"train/total": value}
            callbacks.run("on_fit_epoch_end", training)
        callbacks.run("on_train_end", training)

    session(0, (10, 1.0), (20, 2.0), (30, 9.0))
    session(20, (30, 3.0), (40, 4.0))
    events = EventAccumulator(str(tmp_path)).Reload().Scalars("train/total")
    assert [(one.step, one.value) for one in events] == [(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)]

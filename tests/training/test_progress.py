# SPDX-License-Identifier: Apache-2.0
"""What is seen of a training at 80 columns."""

from __future__ import annotations

import math

import torch

from centermask.training.losses import Losses
from centermask.training.progress import LOSSES, TrainingDisplay


def row(epoch: int, **changes: float) -> dict[str, float | int]:
    losses = {f"train/{name}": 1234.5678 for name in Losses._fields}
    metrics = {f"val/{kind}_{name}": 0.123456 for kind in ("bbox", "segm") for name in ("AP", "AP50")}
    numbers = {"seconds": 4321.9, "memory_gib": 1.5, "lr": 2.5e-5}
    return {"epoch": epoch, "step": 270000, **numbers, **losses, **metrics, **changes}


def test_epochs_are_rows_of_one_table_under_a_heading(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    display = TrainingDisplay()
    for epoch in range(1, 4):
        display.epoch(row(epoch))
    heading, *rows = capsys.readouterr().out.splitlines()
    assert " ".join(heading.split()) == "epoch step loss mask heatmap size box AP mask AP lr seconds"
    assert [line.split()[:3] for line in rows] == [
        ["1", "270000", "1235"],
        ["2", "270000", "1235"],
        ["3", "270000", "1235"],
    ]
    assert rows[0].split()[-4:] == ["0.123", "0.123", "2.5e-05", "4322"]
    assert len({len(line) for line in (heading, *rows)}) == 1 and len(heading) <= 80


def test_the_heading_comes_again_before_it_has_scrolled_away(capsys):
    display = TrainingDisplay()
    for epoch in range(1, 46):
        display.epoch(row(epoch))
    lines = capsys.readouterr().out.splitlines()
    assert [number for number, line in enumerate(lines) if "epoch" in line] == [0, 21, 42]


def test_an_epoch_without_validation_has_no_ap(capsys):
    TrainingDisplay().epoch(row(1, **{"val/bbox_AP": math.nan, "val/segm_AP": math.nan}))
    assert capsys.readouterr().out.splitlines()[-1].split()[-4:-2] == ["-", "-"]


def test_every_loss_is_in_the_bar(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with TrainingDisplay() as display:
        display.start(100, 7, torch.device("cpu"))
        display.step(2, 8, Losses(*(torch.tensor(float(number)) for number in range(6))))
    shown = capsys.readouterr().out
    assert "epoch 3" in shown and "8/100" in shown
    assert all(f"{LOSSES[name]} {number}" in shown for number, name in enumerate(Losses._fields))


def test_quiet_shows_nothing(capsys):
    with TrainingDisplay(quiet=True) as display:
        display.epoch(row(1))
        display.say("The learning rate is small.")
    assert capsys.readouterr() == ("", "")

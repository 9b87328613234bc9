# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a training, in a terminal of 80 columns, in a log file, and with --quiet."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from centermask.data.loader import TrainingSet
from centermask.data.training_steps import TrainingSteps
from centermask.training.best import Best
from centermask.training.losses import LOSS_NAMES
from centermask.training.progress import BarDisplay, LineDisplay, SpokenDisplay
from centermask.training.state import TrainingState
from tests.support.places import ROOT
from tests.support.processes import environment
from tests.support.tiny_training import CONFIG, seven_shapes

ENVIRONMENT = {
    key: value for key, value in environment().items() if key not in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS")
}
YAML = """
name: tiny
model: {backbone: dla_46c, head_channels: 16, shape_size: 8, max_detections: 10}
input: {size: [64, 64]}
train: {epochs: 2, batch: 2, lr: 1e-3, lr_batch: 4, warmup_steps: 4, loss: {mask_grid: 8}}
"""
LOSSES = dict(zip(LOSS_NAMES, (7.7644, 2.5, 1.5, 25.4731, 0.887, 0.43, 0.0), strict=True))


def row(epoch: int, **changes: float) -> dict[str, float | int]:
    losses = {f"train/{name}": 1234.5678 for name in LOSS_NAMES}
    metrics = {f"val/{kind}_{name}": 0.123456 for kind in ("bbox", "segm") for name in ("AP", "AP50")}
    numbers = {"seconds": 3725.4, "memory_gib": 1.25, "lr": 2.5e-5}
    return {"epoch": epoch, "step": 270000, **numbers, **losses, **metrics, **changes}


def state() -> TrainingState:
    return TrainingState(torch.zeros(6), epoch=1, step=3, best=Best(1, 0.125, 0.125, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shapes")
    seven_shapes(path)
    (path / "tiny.yaml").write_text(YAML)
    return path


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> TrainingSteps:
    """Two epochs of three steps of two images."""
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, warmup_steps=4))
    return TrainingSteps(TrainingSet(seven_shapes(tmp_path_factory.mktemp("shapes"))[0], config))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(display: SpokenDisplay) -> list[str]:
    """The lines of the display's console, as a terminal would have them without colours and movements."""
    file = display.console.file
    assert isinstance(file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", file.getvalue()).replace("\r", "\n").splitlines()


def test_a_log_has_the_first_step_then_one_every_half_minute_and_each_epoch(plan):
    clock = Clock()
    display = LineDisplay(Console(file=io.StringIO(), width=80), clock)
    with display:
        display.start("runs/tiny", plan, 0, torch.device("cpu"))
        for step, now in ((1, 1004.0), (2, 1033.9), (3, 1034.0)):
            clock.now = now
            assert display.wants_losses() == (step != 2)
            display.step(0, step, LOSSES)
        display.epoch(row(1), state())
    first, one, three, epoch = shown(display)
    assert first == "runs/tiny: 6 steps in 2 epochs, batch 2, on cpu"
    parts = "mask 0.887, heatmap 2.500, size 25.473, offset 1.500, saliency 0.430"
    assert one.startswith(f"epoch 1/2  step 1/6  loss 7.764 ({parts})  lr 0.00025  0.5 img/s  ")
    assert one.endswith(" GiB  0:00:20 left")  # five steps of four seconds
    assert three.startswith("epoch 1/2  step 3/6  ") and "  0.133 img/s  " in three  # four images in 30 seconds
    assert three.endswith("  0:00:34 left")
    assert epoch == (
        "epoch 1/2  loss 1234.568  box AP 0.1235  mask AP 0.1235  (best 0.1250, epoch 1)  1.2 GiB  1:02:05"
    )


def test_a_long_validation_shows_in_a_log(plan):
    clock = Clock()
    display = LineDisplay(Console(file=io.StringIO(), width=80), clock)
    for _ in display.wrap(iter(range(70)), 70, "validation"):
        clock.now += 1
    assert shown(display) == ["validation: 30/70 images", "validation: 60/70 images"]


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)


def test_a_bar_fits_into_80_columns(plan):
    clock = Clock()
    display = BarDisplay(terminal(80), clock)
    with display:
        display.start("runs/tiny", plan, 0, torch.device("cpu"))
        for step in (1, 2):
            clock.now += 3
            display.step(0, step, LOSSES)
        display.epoch(row(1), state())
    lines = shown(display)
    assert max(map(len, lines)) <= 80
    bars = [line for line in lines if "━" in line]
    assert re.match(r"epoch 1 ━+.* 2/6 [\d:-]+ loss 7\.76 0\.667 img/s ", bars[-1])


def test_every_loss_is_in_a_wide_bar(plan):
    display = BarDisplay(terminal(200))
    with display:
        display.start("runs/tiny", plan, 3, torch.device("cpu"))
        display.step(1, 4, LOSSES)
    (*_, bar) = [line for line in shown(display) if "━" in line]
    assert "epoch 2" in bar and "4/6" in bar
    assert all(
        f"{name.replace('total', 'loss')} {value:.3g}" in bar for name, value in LOSSES.items() if name != "distill"
    )
    assert "distill" not in bar  # there is no teacher


def test_epochs_are_rows_of_one_table_under_a_heading(plan):
    display = BarDisplay(Console(file=io.StringIO(), width=80))
    display.start("runs/tiny", plan, 0, torch.device("cpu"))
    for epoch in range(1, 4):
        display.epoch(row(epoch), state())
    _, heading, *rows = shown(display)
    assert " ".join(heading.split()) == "epoch step loss mask heatmap size box AP mask AP lr seconds"
    assert [line.split()[:3] for line in rows] == [[number, "270000", "1235"] for number in "123"]
    assert rows[0].split()[-4:] == ["0.123", "0.123", "2.5e-05", "3725"]
    assert len({len(line) for line in (heading, *rows)}) == 1 and len(heading) <= 80


def test_the_heading_comes_again_before_it_has_scrolled_away(plan):
    display = BarDisplay(Console(file=io.StringIO(), width=80))
    display.start("runs/tiny", plan, 0, torch.device("cpu"))
    for epoch in range(1, 46):
        display.epoch(row(epoch), state())
    assert [number for number, line in enumerate(shown(display)[1:]) if "epoch" in line] == [0, 21, 42]


def test_an_epoch_without_validation_has_no_ap(plan):
    missing = {"val/bbox_AP": math.nan, "val/segm_AP": math.nan}
    table, lines = BarDisplay(Console(file=io.StringIO(), width=80)), LineDisplay(Console(file=io.StringIO(), width=80))
    for display in (table, lines):
        display.start("runs/tiny", plan, 0, torch.device("cpu"))
        display.epoch(row(1, **missing), state())
    assert shown(table)[-1].split()[-4:-2] == ["-", "-"]
    assert shown(lines)[-1] == "epoch 1/2  loss 1234.568  1.2 GiB  1:02:05"


def train(folder: Path, output: Path, *options: str) -> list[str]:
    arguments = (
        "--config", folder / "tiny.yaml", "--data", folder, "--device", "cpu", "--output", output, "--weights", "none"
    )  # fmt: skip
    return [sys.executable, "-m", "centermask", "train", *map(str, arguments), "--no-plots", *options]


@pytest.mark.process
def test_a_training_whose_output_is_a_file_tells_how_it_goes_from_the_first_step_on(folder, tmp_path):
    """The file is read while the training goes on; it would end after 900 steps."""
    log, errors = tmp_path / "log", tmp_path / "errors"
    with log.open("w") as stdout, errors.open("w") as stderr:
        command = train(folder, tmp_path, "--epochs", "300", "--set", "train.val_every=300")
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr, env=ENVIRONMENT, cwd=ROOT)
        try:
            deadline = time.monotonic() + 200
            while "epoch 2/300  loss" not in log.read_text():
                assert process.poll() is None and time.monotonic() < deadline, errors.read_text()
                time.sleep(0.2)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=200)
    start, place, rate, doubt, step, first_epoch, *_ = log.read_text().splitlines()
    assert start == "Starts from random weights."
    assert place == f"{tmp_path / 'tiny'}: 900 steps in 300 epochs, batch 2, on cpu"
    assert rate == "Learning rate 0.0005: train.lr 0.001 is for batch 4, not 2."
    assert doubt.startswith("900 steps from random weights may find nothing: start from other weights")
    assert re.fullmatch(
        r"epoch 1/300  step 1/900  loss [\d.]+ \(mask .*, saliency [\d.]+\)  lr [\de.-]+  [\d.]+ img/s  [\d.]+ GiB  "
        r".*[\d:]+ left",
        step,
    )
    assert re.fullmatch(r"epoch 1/300  loss [\d.]+  [\d.]+ GiB  0:00:\d\d", first_epoch)
    assert "Warning" not in errors.read_text()


@pytest.mark.process
def test_quiet_leaves_the_ap_and_the_path_of_the_weights(folder, tmp_path):
    done = subprocess.run(
        train(folder, tmp_path, "--quiet"), capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, timeout=200
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    title, *table, path = done.stdout.splitlines()
    assert title.startswith("The best weights, at their mask threshold of 0.")
    assert any("AP50" in line for line in table) and any("mask" in line for line in table) and len(table) == 6
    assert Path(path) == tmp_path / "tiny" / "weights" / "best.safetensors"


@pytest.mark.process
def test_what_follows_the_last_epoch_is_told_too(folder, tmp_path):
    done = subprocess.run(
        train(folder, tmp_path, "--epochs", "1"), capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, timeout=200
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "3 steps in 1 epoch, batch 2" in lines[1]
    last_epoch = max(number for number, line in enumerate(lines) if line.startswith("epoch 1/1  loss"))
    assert re.fullmatch(r"Choosing the mask threshold on \d+ images?\.", lines[last_epoch + 1])

# SPDX-License-Identifier: Apache-2.0
"""A run outlives what happens to it: SIGKILL at the worst moments, SIGTERM to everybody, a disk that is full.

Each is a real process that really dies. What is resumed here is compared, bit for bit, with a run that nothing
disturbed: the random numbers depend on (seed, epoch, image) and the sums on the number of threads alone.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from centermask.config import load_config
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.synthetic import write_shapes
from centermask.training.run_folder import RunFolder
from centermask.training.start import resumed_trainer
from centermask.training.trainer import Trainer
from tests.support.processes import environment

pytestmark = [pytest.mark.slow, pytest.mark.process]


YAML = """
name: tiny
model: {backbone: dla_46c, head_channels: 16, shape_size: 8, max_detections: 10}
input: {size: [64, 64]}
train: {epochs: 2, batch: 2, lr: 1e-3, warmup_steps: 4, workers: 1, checkpoint_every: 2, loss: {mask_grid: 8}}
"""
# PyTorch calls the hook in the middle of a step: the optimizer has changed the weights, and nothing counts it yet.
ACCIDENTS = {
    "in the middle of a step": """
from torch.optim.optimizer import register_optimizer_step_post_hook
steps = itertools.count(1)
register_optimizer_step_post_hook(lambda *_: next(steps) == 5 and die())
""",
    "while the checkpoint is written": """
save, calls = torch.save, itertools.count(1)
def half_a_file(state, path):
    save(state, path)
    if next(calls) == 4:
        os.truncate(path, os.path.getsize(path) // 2)
        die()
torch.save = half_a_file
""",
    "between results.csv and the checkpoint": """
callbacks["on_model_save"] = die
""",
}
KILLED = """
import itertools, os, signal, sys
import torch
from centermask.training import train
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
callbacks = {{}}
{accident}
train({config!r}, {data!r}, run_folder={run!r}, device="cpu", plots=False, callbacks=callbacks)
"""
SLOW = """
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(lambda *_: (print("in the middle of a step", flush=True), time.sleep(1)))
"""
FULL_DISK = """
save, calls = torch.save, itertools.count(1)
def fill(state, path):  # no file of this process can grow beyond 100 kB from now on
    if next(calls) == 3:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    save(state, path)
torch.save = fill
"""
COMMAND = """
import itertools, resource, sys, time
import torch
from centermask.cli import main
{accident}
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """Seven images: three steps an epoch."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, 7, seed=1, val_count=2, size_hw=(64, 64), max_objects=3)
    (folder / "tiny.yaml").write_text(YAML)
    return folder


@pytest.fixture(scope="module")
def undisturbed(shapes, tmp_path_factory) -> RunFolder:
    config = load_config(shapes / "tiny.yaml")
    sets = load_dataset(find_split(shapes, "train")), load_dataset(find_split(shapes, "val"))
    trainer = Trainer(config, *sets, RunFolder(tmp_path_factory.mktemp("run") / "tiny"), device="cpu")
    trainer.fit()
    return trainer.run


def command(shapes: Path, output: Path, accident: str) -> list[str]:
    options = ("train", "--config", shapes / "tiny.yaml", "--data", shapes, "--device", "cpu", "--output", output)
    return [sys.executable, "-c", COMMAND.format(accident=accident), *map(str, options)]


def resume(run: RunFolder) -> None:
    """As `--resume` does."""
    resumed_trainer(run, device="cpu").fit()


def assert_as_if_nothing_had_happened(run: RunFolder, undisturbed: RunFolder) -> None:
    for one, other in ((run.last, undisturbed.last), (run.best, undisturbed.best)):
        weights, truth = load_file(one), load_file(other)
        assert [name for name in truth if not torch.equal(weights[name], truth[name])] == []
    rows, truth_rows = (list(csv.DictReader(folder.results.open())) for folder in (run, undisturbed))
    for row in (*rows, *truth_rows):
        del row["seconds"], row["memory_gib"]
    assert rows == truth_rows
    assert not list(run.path.rglob(".*"))  # what a killed process was just writing


@pytest.mark.parametrize("accident", ACCIDENTS.values(), ids=ACCIDENTS.keys())
def test_a_killed_run_ends_as_if_nothing_had_happened(shapes, undisturbed, tmp_path, accident):
    run = RunFolder(tmp_path / "tiny")
    given = {"config": str(shapes / "tiny.yaml"), "data": str(shapes), "run": str(run.path)}
    program = [sys.executable, "-c", KILLED.format(accident=accident, **given)]
    done = subprocess.run(program, env=environment(), timeout=300, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert run.load_checkpoint()["state"]["step"] in (2, 3, 4)  # of 6: the last whole one
    resume(run)
    assert_as_if_nothing_had_happened(run, undisturbed)


def test_a_terminated_run_saves_first(shapes, undisturbed, tmp_path):
    """SIGTERM to the whole group, the loader's worker too, as clusters send it before they take their machine back."""
    process = subprocess.Popen(
        command(shapes, tmp_path, SLOW), env=environment(), start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    while "in the middle of a step" not in (line := process.stdout.readline()):
        assert line or process.poll() is None, process.communicate()
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGTERM)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, stderr
    run = RunFolder(tmp_path / "tiny")
    assert f"Stopped after step 1; go on with: centermask train --resume {run.path}" in stderr
    assert "Traceback" not in stderr
    assert run.load_checkpoint()["state"]["step"] == 1  # the step it came in was finished
    resume(run)
    assert_as_if_nothing_had_happened(run, undisturbed)


def test_a_full_disk_is_one_sentence_and_costs_only_the_steps_since(shapes, undisturbed, tmp_path):
    done = subprocess.run(
        command(shapes, tmp_path, FULL_DISK), env=environment(), timeout=300, capture_output=True, text=True
    )
    run = RunFolder(tmp_path / "tiny")
    sentence = (
        f"Error: {run.checkpoint} cannot be written; the one before is kept: make room on the disk, then resume "
        f"{run.path}."
    )
    assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert run.load_checkpoint()["state"]["step"] == 3  # the third one is that of the end of the epoch
    resume(run)
    assert_as_if_nothing_had_happened(run, undisturbed)

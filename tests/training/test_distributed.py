# SPDX-License-Identifier: Apache-2.0
"""Two processes train what one trains: real processes, PyTorch's DistributedDataParallel over gloo, on the CPU.

Batch norms are frozen where the two are compared, because each process normalises by its own images: PyTorch has
SyncBatchNorm for GPUs only. What is left between the two is the order in which sums are taken.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from centermask.config import TrainConfig
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import TrainingSet
from centermask.data.synthetic import write_shapes
from centermask.data.training_steps import TrainingSteps
from centermask.training.distributed import open_fabric
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer
from centermask_runtime.errors import DataError, UsageError
from tests.support.places import ROOT
from tests.support.processes import environment
from tests.support.train_together import CONFIG, train

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
YAML = """
name: tiny
model: {backbone: dla_46c, head_channels: 16, shape_size: 8, max_detections: 10}
input: {size: [64, 64]}
train: {epochs: 2, batch: 4, lr: 1e-3, warmup_steps: 1, workers: 0, loss: {mask_grid: 8}}
"""


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    """Nine training images, two steps an epoch, and three to validate on: neither can be halved."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, 9, seed=1, val_count=3, size_hw=(64, 64), max_objects=3)
    return folder


@pytest.fixture(scope="module")
def alone(shapes, tmp_path_factory) -> tuple[list[list[float]], Path]:
    """Losses and run folder of one process."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    return train(shapes, run, 1).losses, run


def python(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment(), cwd=ROOT)
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    return done


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "results.csv").open()))


def assert_same_training(losses: list[list[float]], run: Path, alone: tuple[list[list[float]], Path]) -> None:
    """Losses within 1e-5 of their size, weights within what Adam makes of it.

    One step moves a weight by up to lr, whatever its gradient: where that is nearly zero, rounding chooses the way.
    """
    np.testing.assert_allclose(losses, alone[0], rtol=1e-5)
    truth = load_file(alone[1] / "weights" / "last.safetensors")
    differences = [
        (tensor - truth[name]).abs().flatten().double()
        for name, tensor in load_file(run / "weights" / "last.safetensors").items()
    ]
    every = torch.cat(differences) / CONFIG.train.lr
    assert every.mean() < 1e-3 and every.max() < 1
    for row, true in zip(rows(run), rows(alone[1]), strict=True):
        assert row["step"] == true["step"]
        for column in ("train/total", "train/mask", "val/segm_AP", "val/bbox_AP50"):
            assert float(row[column]) == pytest.approx(float(true[column]), rel=1e-3, abs=1e-6), column


@pytest.mark.process
@pytest.mark.slow
def test_two_processes_train_as_one(shapes, alone, tmp_path):
    """Started by Fabric, as --num-gpus 2 does."""
    run = tmp_path / "two"
    python(ROOT / "tests" / "support" / "train_together.py", shapes, run, 2)
    assert_same_training(json.loads((run / "losses.json").read_text()), run, alone)
    heard = json.loads((run / "heard.json").read_text())  # by callbacks of the first process, which has half a batch
    assert heard["steps"] == [step[0] for step in json.loads((run / "losses.json").read_text())]
    assert heard["epochs"] == [pytest.approx(float(row["train/total"])) for row in rows(run)]
    names = {path.name for path in run.iterdir()} - {"losses.json", "heard.json"}
    assert names == {"args.yaml", "checkpoint.pt", "data.json", "results.csv", "weights"}


@pytest.mark.slow
def test_micro_batches_add_up_to_the_batch(shapes, alone, tmp_path):
    """The objects that a micro-batch has are not those of the step; its losses are averaged over the latter."""
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, accumulate=4))
    losses = train(shapes, tmp_path / "four", 1, config).losses
    assert_same_training(losses, tmp_path / "four", alone)


@pytest.mark.process
@pytest.mark.slow
def test_the_command_under_torchrun_makes_one_run_that_one_process_can_resume(shapes, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(YAML)
    options = ("--config", config, "--data", shapes, "--device", "cpu", "--output", tmp_path)
    python(*TORCHRUN, "-m", "centermask", "train", *options, "--set", "train.accumulate=2", "--quiet")
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "tiny.yaml"}
    run = RunFolder(tmp_path / "tiny")
    assert [(row["epoch"], row["step"]) for row in rows(run.path)] == [("1", "2"), ("2", "4")]
    settings, sources = run.read()
    again = Trainer(settings, *(source.load() for source in sources), run, device="cpu")
    again.resume()
    assert again.state.step == 4
    assert again.state.loss_sum.tolist() == pytest.approx(run.load_checkpoint()["state"]["loss_sum"])


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_image_that_one_process_cannot_read_ends_both_with_one_sentence(tmp_path, split):
    write_shapes(tmp_path / "data", 4, seed=1, val_count=2, size_hw=(64, 64), max_objects=3)
    damaged = sorted((tmp_path / "data" / split).iterdir())[-1]
    damaged.write_bytes(b"\x89PNG not much")
    (tmp_path / "tiny.yaml").write_text(YAML)
    options = ("--config", tmp_path / "tiny.yaml", "--data", tmp_path / "data", "--device", "cpu", "--output", tmp_path)
    done = python(*TORCHRUN, "-m", "centermask", "train", *options, "--quiet", expect=1)  # torchrun's own code
    sentences = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1 and damaged.name in sentences[0] and "[rank" not in done.stderr, done.stderr


@pytest.mark.process
@pytest.mark.slow
def test_starting_weights_that_are_not_there_are_missed_once(shapes, tmp_path):
    (tmp_path / "tiny.yaml").write_text(YAML)
    options = ("--config", tmp_path / "tiny.yaml", "--data", shapes, "--device", "cpu", "--output", tmp_path)
    weights = ("--weights", tmp_path / "none.safetensors")
    done = python(*TORCHRUN, "-m", "centermask", "train", *options, *weights, "--quiet", expect=1)
    sentences = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1 and "none.safetensors" in sentences[0], done.stderr


# ---- without processes ----------------------------------------------------------------------------------------------


def steps(folder: Path, *, rank: int = 0, processes: int = 1, **train: object) -> TrainingSteps:
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, **train))
    samples = TrainingSet(load_dataset(find_split(folder, "train")), config)
    return TrainingSteps(samples, rank=rank, processes=processes)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("event", ["on_train_batch_start", "on_train_batch_end", "on_train_epoch_end"])
def test_a_callback_that_fails_ends_both_processes_and_only_the_first_says_so(shapes, tmp_path, event):
    done = python(ROOT / "tests" / "support" / "train_together.py", shapes, tmp_path / "run", 2, event, expect=1)
    assert done.stderr.rstrip().endswith("DataError: The callback has had enough."), done.stderr
    assert "[rank1]" not in done.stderr, done.stderr


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (1, 4), (2, 2)])
def test_processes_and_micro_batches_share_each_step_of_the_whole(shapes, processes, accumulate):
    whole = list(steps(shapes))
    assert [len(batch) for batch in whole] == [4, 4, 4, 4]
    shares = [list(steps(shapes, rank=r, processes=processes, accumulate=accumulate)) for r in range(processes)]
    for number, batch in enumerate(whole):
        mine = slice(number * accumulate, (number + 1) * accumulate)
        assert [draw for share in shares for micro in share[mine] for draw in micro] == batch
    assert {len(micro) for share in shares for micro in share} == {4 // processes // accumulate}


def test_a_batch_of_too_few_images_is_shared_all_the_same(shapes):
    shares = [next(iter(steps(shapes, batch=32, rank=rank, processes=2))) for rank in (0, 1)]
    assert sorted(len(share) for share in shares) == [4, 5]
    assert len({draw.image for share in shares for draw in share}) == 9


def test_a_length_in_steps_may_end_inside_an_epoch(shapes):
    plan = steps(shapes, steps=5)
    assert (plan.total_steps, plan.epochs) == (5, 3) and [plan.steps_in(epoch) for epoch in range(3)] == [2, 2, 1]
    assert [draws[0].epoch for draws in plan] == [0, 0, 1, 1, 2]


def test_what_cannot_be_shared_is_refused(shapes):
    with pytest.raises(UsageError, match=r"train\.batch 4 cannot be shared evenly by 3 processes .*a multiple of 3"):
        steps(shapes, processes=3)
    with pytest.raises(DataError, match=r"has 9 images, too few for 16 processes with train.accumulate 2"):
        steps(shapes, batch=32, processes=16, accumulate=2)


def test_single_values_to_normalise_are_refused(shapes):
    with pytest.raises(UsageError, match=r"Images of 32 x 32 pixels one by one are a single value"):
        steps(shapes, crop=(32, 32), batch=2, processes=2)
    assert steps(shapes, crop=(32, 32), batch=4, processes=2).steps_an_epoch == 2
    assert steps(shapes, crop=(32, 64), batch=2, processes=2).steps_an_epoch == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_more_gpus_than_there_are_are_refused():
    with pytest.raises(UsageError, match=r"3 GPUs were asked for, but PyTorch finds 0 GPUs here"):
        open_fabric(TrainConfig(), "auto", 3)


def test_torchrun_and_num_gpus_must_agree(monkeypatch):
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match=r"3 GPUs were asked for, but torchrun started 2 processes on this machine"):
        open_fabric(TrainConfig(), "cpu", 3)


def test_machines_with_different_numbers_of_processes_are_refused(monkeypatch):
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UsageError, match=r"2 processes here and 3 on all machines .* the same --nproc-per-node"):
        open_fabric(TrainConfig(), "cpu")


def test_sync_bn_between_processes_on_a_cpu_is_refused(shapes, tmp_path):
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, sync_bn=True))
    sets = load_dataset(find_split(shapes, "train")), load_dataset(find_split(shapes, "val"))
    Trainer(config, *sets, RunFolder(tmp_path), device="cpu")
    with pytest.raises(UsageError, match=r"train\.sync_bn works between GPUs only"):
        Trainer(config, *sets, RunFolder(tmp_path), device="cpu", devices=2)


@pytest.mark.parametrize("device", ["cuda:1", 1, "1"])
def test_a_training_takes_the_names_of_devices_that_a_prediction_takes(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="Device cuda:1 was asked for, but the last GPU here is cuda:0"):
        open_fabric(CONFIG.train, device)
    assert open_fabric(CONFIG.train, "cpu").device.type == "cpu"


def test_a_device_that_no_one_has_is_refused_before_a_training():
    with pytest.raises(UsageError, match="There is no device 'gpu'"):
        open_fabric(CONFIG.train, "gpu")

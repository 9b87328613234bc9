# SPDX-License-Identifier: Apache-2.0
"""Batches for training: complete, in order, and the same whatever the number of workers."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import centermask.data
from centermask.config import AugmentConfig, Config, InputConfig, ModelConfig, TrainConfig
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import Batch, TrainingSet, collate, fitting_workers, start_worker, training_loader
from centermask.data.synthetic import write_shapes
from centermask.data.training_steps import TrainingSteps
from centermask_runtime.errors import DataError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.reference import preprocess
from tests.support.places import ROOT

PATHS = [str(ROOT / part) for part in ("", "runtime", "export")]


CONFIG = Config(
    "shapes",
    model=ModelConfig(saliency="class_specific"),
    input=InputConfig(size=(96, 128)),
    train=TrainConfig(batch=4, workers=0, crop=(64, 64), augment=AugmentConfig(rotate_90=True)),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Ten images of shapes; the third has lost its objects."""
    path = tmp_path_factory.mktemp("shapes")
    write_shapes(path, 10, seed=1, size_hw=(80, 100))
    file = path / "annotations" / "instances_train.json"
    entries = json.loads(file.read_text())
    entries["annotations"] = [entry for entry in entries["annotations"] if entry["image_id"] != 3]
    file.write_text(json.dumps(entries))
    return path


def samples(folder: Path, augmented: bool = True, **train: object) -> TrainingSet:
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, **train))
    return TrainingSet(load_dataset(find_split(folder, "train")), config, augmented=augmented)


def loader_of(samples: TrainingSet, first_step: int = 0) -> DataLoader:
    steps = TrainingSteps(samples)
    steps.first_step = first_step
    return training_loader(samples, steps)


def assert_equal(one: Batch, other: Batch) -> None:
    for field in dataclasses.fields(Batch):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_a_batch_joins_its_samples_in_order(folder):
    parts = [samples(folder)[index] for index in range(4)]
    batch = collate(parts)
    assert batch.images.shape == (4, 64, 64, 3) and batch.images.dtype == torch.uint8
    assert batch.heatmap.shape == batch.saliency.shape == (4, 3, 16, 16)
    assert batch.saliency_present.shape == (4, 3)
    n = len(batch.labels)
    assert n == sum(len(targets.labels) for _, targets in parts) > 0
    assert batch.masks.shape == (n, 28, 28) and batch.cells.shape == batch.offsets.shape == batch.sizes.shape == (n, 2)
    for index, (image, targets) in enumerate(parts):
        mine = batch.image_index == index
        np.testing.assert_array_equal(batch.images[index], image)
        for name in ("labels", "cells", "offsets", "sizes", "boxes", "masks"):
            np.testing.assert_array_equal(getattr(batch, name)[mine], getattr(targets, name))


def test_images_without_objects_make_a_batch_too(folder):
    empty = samples(folder)[2]
    batch = collate([empty, empty])
    assert batch.image_index.shape == batch.labels.shape == (0,) and batch.masks.shape == (0, 28, 28)
    assert batch.boxes.shape == (0, 4) and not batch.saliency_present.any()
    assert_equal(batch, batch.to("cpu"))


def test_workers_change_nothing_and_see_each_epoch(folder):
    alone, helped = loader_of(samples(folder, epochs=3)), loader_of(samples(folder, epochs=3, workers=2))
    expected = list(alone)
    assert len(expected) == len(alone) == 6  # two steps an epoch
    for _ in range(2):
        for one, other in zip(expected, helped, strict=True):
            assert_equal(one, other)
    assert not torch.equal(expected[0].images, expected[2].images)


def test_workers_are_as_many_as_the_cores_allow_and_torch_has_nothing_to_warn_of(folder, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6))
    assert [fitting_workers(), fitting_workers(2), fitting_workers(4), fitting_workers(7)] == [6, 3, 1, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    assert [fitting_workers(), fitting_workers(8), fitting_workers(16)] == [8, 8, 4]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loader_of(samples(folder, workers=None)).num_workers == 2
        assert loader_of(samples(folder, workers=9)).num_workers == 9  # who asks for nine gets nine


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_used_comes_as_its_error(folder, tmp_path, workers):
    """Raised in a worker it would be wrapped in torch's traceback."""
    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "train" / "000004.png").write_bytes(b"\x89PNG not much")
    batches = list(loader_of(samples(tmp_path / "data", batch=10, epochs=1, workers=workers)))
    assert [type(batch) for batch in batches] == [DataError]
    assert "000004.png" in str(batches[0])


@pytest.mark.process
@pytest.mark.slow
def test_workers_start_after_opencv_has_used_its_threads(folder):
    """A forked worker inherits a thread pool without its threads; waiting for them would take forever."""
    code = f"""
import sys, time; sys.path[:0] = {PATHS}
import cv2, numpy as np
cv2.setNumThreads(2)
cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 3)
time.sleep(0.5)  # the pool's threads go to sleep
import tests.data.test_loader as t, pathlib
list(t.loader_of(t.samples(pathlib.Path({str(folder)!r}), epochs=1, workers=1)))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


@pytest.mark.process
def test_where_a_signal_cannot_be_waited_for_sigterm_ends_a_worker(monkeypatch):
    """On macOS; blocked, it would leave a worker that nothing but SIGKILL ends."""
    monkeypatch.delattr(signal, "sigwaitinfo")
    context = multiprocessing.get_context("fork")
    started = context.Event()

    def work() -> None:
        start_worker(0)
        started.set()
        time.sleep(60)

    process = context.Process(target=work)
    process.start()
    assert started.wait(30)
    process.terminate()
    process.join(5)
    exitcode = process.exitcode
    process.kill()
    assert exitcode == -signal.SIGTERM


def test_another_seed_gives_other_samples(folder):
    one, other = samples(folder, seed=0)[0], samples(folder, seed=1)[0]
    assert not np.array_equal(one[0], other[0])


def test_the_cache_changes_nothing(folder):
    plain, cached = samples(folder), samples(folder, cache=True)
    for _ in range(2):
        assert_equal(collate([plain[0], plain[1]]), collate([cached[0], cached[1]]))


def test_a_resumed_epoch_goes_on_where_it_stopped(folder):
    whole, rest = loader_of(samples(folder, epochs=2)), loader_of(samples(folder, epochs=2), first_step=1)
    assert len(rest) == 3
    for one, other in zip(list(whole)[1:], rest, strict=True):
        assert_equal(one, other)


def test_without_augmentation_the_image_is_the_networks_input(folder):
    plain = samples(folder, augmented=False)
    image, targets = plain[0]
    source = plain.dataset.image(0)
    truth = preprocess.letterbox(source, Letterbox.fit(source.shape[:2], (96, 128)))
    assert np.abs(image.astype(int) - truth).mean() < 0.5 and np.abs(image.astype(int) - truth).max() <= 4
    assert len(targets.labels) == len(plain.dataset.objects(0))


@pytest.mark.process
def test_only_the_loader_and_its_steps_need_torch():
    """A data set can be read, examined and downloaded without."""
    found = pkgutil.walk_packages(centermask.data.__path__, "centermask.data.")
    names = {module.name for module in found} - {"centermask.data.loader", "centermask.data.training_steps"}
    assert {"centermask.data.dataset", "centermask.data.doctor.examine", "centermask.data.formats.voc"} < names
    code = f"import sys; sys.path[:0] = {PATHS}; import {', '.join(sorted(names))}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

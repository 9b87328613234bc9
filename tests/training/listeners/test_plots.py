# SPDX-License-Identifier: Apache-2.0
"""The pictures of a run: drawn at their moments, of the very tensors that are trained on; TensorBoard gets the same."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from centermask.config import AugmentConfig, Config, InputConfig, ModelConfig, TrainConfig, parse_config
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import Batch, TrainingSet, collate
from centermask.data.sampling import Draw
from centermask.data.synthetic import write_shapes
from centermask.evaluation.pictures import square_sheet
from centermask.training.callbacks import Callbacks
from centermask.training.listeners.batches import _instances, draw_batch, draw_targets
from centermask.training.listeners.labels import _boxes, draw_labels
from centermask.training.listeners.plots import add_plots
from centermask.training.listeners.results import _line, draw_results
from centermask.training.listeners.tensorboard_events import add_tensorboard
from centermask.training.run_folder import RunFolder
from centermask.training.state import TrainingState
from centermask.training.trainer import Trainer

TINY = """
name: tiny
model: {backbone: dla_46c, head_channels: 16, shape_size: 8, saliency: class_agnostic, max_detections: 10}
input: {size: [64, 64]}
train: {epochs: 2, batch: 2, lr: 1e-3, warmup_steps: 1, workers: 0, precision: 32-true, schedule: cosine}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shapes")
    write_shapes(path, 4, seed=2, val_count=2, size_hw=(80, 100))
    return path


@pytest.fixture(scope="module")
def dataset(folder) -> Dataset:
    return load_dataset(find_split(folder, "train"))


@pytest.fixture(scope="module")
def batch(dataset) -> Batch:
    model = ModelConfig(saliency="class_agnostic")
    train = TrainConfig(epochs=20, augment=AugmentConfig(scale=(1.0, 1.6), mosaic=0.3))
    samples = TrainingSet(dataset, Config("shapes", model=model, input=InputConfig(size=(96, 96)), train=train))
    return collate([samples[Draw(index)] for index in range(4)])


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory) -> Path:
    """The folder of a run of two epochs, with plots and TensorBoard."""
    sets = tuple(load_dataset(find_split(folder, split)) for split in ("train", "val"))
    run = RunFolder(tmp_path_factory.mktemp("run") / "tiny")
    trainer = Trainer(parse_config(TINY, "test"), *sets, run, device="cpu")
    add_plots(trainer.callbacks)
    add_tensorboard(trainer.callbacks)
    seen: list[torch.Tensor] = []
    trainer.callbacks.add("on_train_batch_start", lambda trainer: seen.append(trainer.batches[0].images))
    trainer.fit()
    np.save(run.path / "first.npy", seen[0].numpy())
    return run.path


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


@pytest.mark.slow
def test_a_train_picture_shows_the_batch_that_was_trained_on(trained):
    """Outside of masks and labels its cells are the network's input, enlarged and compressed."""
    images = np.load(trained / "first.npy")
    shown = cv2.imread(str(trained / "train_batch0.jpg")).astype(int)
    plain = square_sheet(list(images)).astype(int)
    assert shown.shape == plain.shape
    assert (np.abs(shown - plain).max(2) < 40).mean() > 0.3


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


def test_masks_of_a_batch_are_drawn_where_its_images_have_the_objects(batch, dataset):
    """A grid of 28 x 28 against the exact mask of a plain, letterboxed sample."""
    model = ModelConfig(saliency="class_agnostic")
    config = Config("shapes", model=model, input=InputConfig(size=(96, 96)), train=TrainConfig())
    index = max(range(len(dataset)), key=lambda index: len(dataset.labels(index)))
    plain = collate([TrainingSet(dataset, config, augmented=False)[index]])
    drawn = _instances(plain, 0, dataset.class_names)
    exact = dataset.objects(index)
    assert len(drawn) == len(exact) > 1
    for number, one in enumerate(exact):
        full = np.zeros((80, 100), np.uint8)
        x0, y0, x1, y1 = one.rect
        full[y0:y1, x0:x1] = one.crop
        # the letterbox: 80 x 100 pixels become 77 x 96 with 9 rows above; pixel centres at +0.5
        letterbox = np.array([[0.96, 0, -0.02], [0, 77 / 80, 9 + 77 / 160 - 0.5]])
        warped = cv2.warpAffine(full, letterbox, (96, 96), flags=cv2.INTER_NEAREST) > 0
        mine = drawn.masks.canvas(number)
        assert (mine & warped).sum() / (mine | warped).sum() > 0.85
    assert len(_instances(batch, 0, dataset.class_names)) == int((batch.image_index == 0).sum())


def test_targets_mark_each_centre(batch):
    picture = draw_targets(dataclasses.replace(batch, images=batch.images * 0))
    plain = draw_targets(
        dataclasses.replace(batch, images=batch.images * 0, image_index=torch.full_like(batch.image_index, -1))
    )
    assert (picture != plain).any()
    assert (picture == 255).all(2).sum() > 4 * len(batch.labels)


def test_batches_of_any_number_of_images_and_objects_are_drawn(batch, dataset):
    empty = dataclasses.replace(batch, image_index=torch.full_like(batch.image_index, -1))
    assert np.array_equal(draw_batch(empty, dataset.class_names), square_sheet(list(batch.images.numpy())))
    many = dataclasses.replace(batch, images=batch.images.repeat(10, 1, 1, 1))
    assert draw_batch(many, dataset.class_names).shape[0] < 4 * 500


def test_boxes_of_labels_are_in_network_pixels(dataset):
    """80 x 100 in 160 x 160: scale 1.6."""
    boxes = _boxes(dataset, (160, 160))
    one = dataset.objects(0)[0]
    x0, y0, x1, y1 = one.rect
    np.testing.assert_allclose(boxes[0], [(x0 + x1) / 200, (y0 + y1) / 160, (x1 - x0) * 1.6, (y1 - y0) * 1.6])
    assert len(boxes) == sum(len(dataset.objects(index)) for index in range(len(dataset)))


def test_a_set_without_objects_has_labels_too(dataset, tmp_path):
    bare = dataclasses.replace(dataset, annotations=((),) * len(dataset))
    draw_labels(bare, tmp_path / "labels.jpg", (64, 64))
    assert (tmp_path / "labels.jpg").is_file()


def test_epochs_without_validation_leave_no_gap_and_no_nan(tmp_path):
    rows = [
        {"epoch": n, "lr": 0.1, "train/total": 1 / n, "val/segm_AP": 0.1 * n if n % 2 == 0 else math.nan}
        for n in range(1, 6)
    ]
    table = tmp_path / "results.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with table.open(newline="") as file:
        assert _line(list(csv.DictReader(file)), "val/segm_AP") == ([2.0, 4.0], [0.2, 0.4])
    draw_results(table, tmp_path / "results.png")
    assert cv2.imread(str(tmp_path / "results.png")).std() > 5


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

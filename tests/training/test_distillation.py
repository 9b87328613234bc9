# SPDX-License-Identifier: Apache-2.0
"""Distillation: losses and gradients worked out by hand, whose classes fit, and a training with a teacher."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path

import pytest
import torch

from centermask.config import Config, LossConfig
from centermask.data.dataset import Dataset
from centermask.data.loader import Batch, TrainingSet, collate
from centermask.model.network import build_model
from centermask.model.weights import load_weights, save_weights, spec_of
from centermask.training.distillation import SoftTargets, Teacher, distillation_loss, divergence, quality_focal_loss
from centermask.training.losses import counts_of
from centermask.training.start import resumed_trainer
from centermask_runtime.errors import ModelError
from centermask_runtime.spec import ModelSpec
from tests.support.tiny_training import CONFIG, new_trainer, seven_shapes, tensors

NAMES = ("ellipse", "rectangle", "star")
LN2 = math.log(2)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[Dataset, Dataset]:
    return seven_shapes(tmp_path_factory.mktemp("shapes"))


def spec(names: tuple[str, ...] = NAMES, saliency: str = "class_specific") -> ModelSpec:
    return spec_of(config_of(saliency), names, tuple(range(1, len(names) + 1)))


def config_of(saliency: str = "class_specific") -> Config:
    return dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, saliency=saliency))


def teacher_of(names: tuple[str, ...], student: ModelSpec, saliency: str = "class_specific") -> Teacher:
    torch.manual_seed(3)
    return Teacher(build_model(config_of(saliency), len(names)), spec(names, saliency), student)


def write_teacher(path: Path, names: tuple[str, ...] = NAMES) -> Path:
    torch.manual_seed(4)
    config = dataclasses.replace(CONFIG, name="old_hand", model=dataclasses.replace(CONFIG.model, head_channels=24))
    model = build_model(config, len(names))
    save_weights(path, model.state_dict(), spec_of(config, names, tuple(range(1, len(names) + 1))), config)
    return path


def with_teacher(path: str | Path, **train: object) -> Config:
    return dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, distill=str(path), **train))


# ---- by hand --------------------------------------------------------------------------------------------------------


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_the_soft_focal_loss_and_its_gradient_by_hand():
    """The student says 0.5 and the teacher 0.9: 0.4^2 ln 2, whose derivative is that of both factors."""
    student = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    loss = quality_focal_loss(student, torch.tensor([logit(0.9)], dtype=torch.float64))
    loss.sum().backward()
    assert loss.item() == pytest.approx(0.16 * LN2)
    by_hand = 2 * (0.5 - 0.9) * 0.25 * LN2 + 0.16 * (0.5 - 0.9)
    assert student.grad is not None and student.grad.item() == pytest.approx(by_hand)


def test_the_divergence_and_its_gradient_by_hand():
    student = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    loss = divergence(student, torch.tensor([logit(0.9)], dtype=torch.float64))
    loss.sum().backward()
    assert loss.item() == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5))
    assert student.grad is not None and student.grad.item() == pytest.approx(0.5 - 0.9)


@pytest.mark.parametrize("value", [-90.0, -3.0, 0.0, 2.5, 90.0])
def test_where_they_agree_there_is_neither_loss_nor_gradient(value):
    for loss_of in (quality_focal_loss, divergence):
        student = torch.tensor([value], requires_grad=True)
        loss = loss_of(student, torch.tensor([value]))
        loss.sum().backward()
        assert student.grad is not None
        assert (loss.item(), student.grad.item()) == pytest.approx((0.0, 0.0), abs=1e-12)


def batch_of(shapes: tuple[Dataset, Dataset]) -> Batch:
    samples = TrainingSet(shapes[0], CONFIG, augmented=False)
    batch = collate([samples[index] for index in (0, 1)])
    assert isinstance(batch, Batch)
    return batch


def test_both_maps_count_as_in_the_loss_of_the_annotations(shapes):
    """Heat map over the objects; saliency over the pixels of the classes that are there: the slow sums."""
    batch, counts = batch_of(shapes), counts_of([batch_of(shapes)])
    model = build_model(CONFIG, 3).eval()
    with torch.no_grad():
        outputs = model(batch.images, batch.image_index, batch.cells)
    generator = torch.Generator().manual_seed(1)
    soft = SoftTargets(*(torch.randn(one.shape, generator=generator) for one in (outputs.heatmap, outputs.saliency)))
    weights = LossConfig(heatmap=2.0, saliency=0.25)
    heat = sum(quality_focal_loss(a, b).sum() for a, b in zip(outputs.heatmap, soft.heatmap, strict=True))
    saliency, pixels = 0.0, 0
    for image, channel in batch.saliency_present.nonzero().tolist():
        part = divergence(outputs.saliency[image, channel], soft.saliency[image, channel])
        saliency, pixels = saliency + float(part.sum()), pixels + part.numel()
    assert 0 < pixels < soft.saliency.numel()
    by_hand = 2.0 * float(heat) / len(batch.labels) + 0.25 * saliency / pixels
    assert float(distillation_loss(outputs, soft, batch, weights, counts)) == pytest.approx(by_hand, rel=1e-5)


# ---- whose classes --------------------------------------------------------------------------------------------------


def test_classes_are_found_by_name_in_a_teacher_of_more(shapes):
    student = spec()
    teacher = teacher_of(("star", "moon", "rectangle", "ellipse"), student)
    images = batch_of(shapes).images
    with torch.no_grad():
        features = teacher.model.features(images)
        heatmap, saliency = teacher.model.heatmap(features), teacher.model.saliency(features)
    soft = teacher.targets(images)
    assert torch.equal(soft.heatmap, heatmap[:, [3, 2, 0]]) and torch.equal(soft.saliency, saliency[:, [3, 2, 0]])
    assert not soft.heatmap.requires_grad and not teacher.model.training


def test_one_saliency_map_for_the_same_classes_is_taught(shapes):
    teacher = teacher_of(NAMES, spec(saliency="class_agnostic"), "class_agnostic")
    assert teacher.targets(batch_of(shapes).images).saliency.shape[1] == 1
    one = teacher_of(("star", "moon"), spec(("star",), "class_agnostic"))  # one class is one map either way
    assert one.targets(batch_of(shapes).images).saliency.shape[1] == 1


def test_a_teacher_of_other_classes_or_maps_is_refused():
    with pytest.raises(ModelError, match=r"knows star, moon, but is to teach ellipse, rectangle; name a teacher that"):
        teacher_of(("star", "moon"), spec())
    for teaching, learning in (("class_agnostic", "class_specific"), ("class_specific", "class_agnostic")):
        with pytest.raises(ModelError, match=r"which do not become the student's . for 3; choose another teacher"):
            teacher_of(NAMES, spec(saliency=learning), teaching)
    with pytest.raises(ModelError, match="1 saliency map for 4 classes, which do not become"):
        teacher_of((*NAMES, "moon"), spec(saliency="class_agnostic"), "class_agnostic")


def test_a_file_that_cannot_teach_is_refused_before_a_folder_is_made(shapes, tmp_path):
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"")
    for name, sentence in (
        (onnx, "cannot teach, as it is no weights file; name the .safetensors"),
        (tmp_path / "gone.safetensors", "gone.safetensors"),
        ("nucle", "did you mean 'nuclei'"),
        ("nuclei", r"knows nucleus, but is to teach ellipse, rectangle, star"),
    ):
        with pytest.raises(ModelError, match=sentence):
            new_trainer(tmp_path, shapes, with_teacher(name))
    assert not (tmp_path / "tiny").exists()


# ---- a training -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_training_with_a_teacher(shapes, tmp_path, monkeypatch):
    """It is told, noted and counted; the teacher stays as it is; the run goes on from another folder."""
    monkeypatch.chdir(tmp_path)
    path = write_teacher(tmp_path / "teacher.safetensors")
    trainer = new_trainer(tmp_path, shapes, with_teacher(path.name, distill_weight=0.5))
    said: list[str] = []
    trainer.display.say = said.append  # type: ignore[method-assign]
    trainer.fit()
    assert any(sentence == f"Distilled from old_hand ({path})." for sentence in said)
    assert trainer.learner.teacher is not None
    after = trainer.learner.teacher.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in tensors(path).items())
    loss = trainer.config.train.loss
    for row in csv.DictReader(trainer.run.results.open()):
        parts = {name: float(row[f"train/{name}"]) for name in ("heatmap", "offset", "size", "mask", "saliency")}
        total = sum(getattr(loss, name) * value for name, value in parts.items()) + float(row["train/distill"])
        assert float(row["train/distill"]) > 0 and float(row["train/total"]) == pytest.approx(total, rel=1e-3)
    assert load_weights(trainer.run.best)[1].provenance["distilled_from"] == "old_hand"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resumed_trainer(trainer.run, device="cpu").learner.teacher is not None


@pytest.mark.slow
def test_without_a_teacher_there_is_no_column_of_it(shapes, tmp_path):
    trainer = new_trainer(tmp_path, shapes)
    trainer.fit()
    (first, *_) = csv.DictReader(trainer.run.results.open())
    assert "train/saliency" in first and "train/distill" not in first


@pytest.mark.slow
def test_a_student_comes_to_see_what_its_teacher_sees(shapes, tmp_path):
    """From the teacher alone: what is annotated weighs nothing."""
    path = write_teacher(tmp_path / "teacher.safetensors")
    silent = dataclasses.replace(CONFIG.train.loss, heatmap=1e-9, offset=0, size=0, mask=0, saliency=1e-9)
    config = with_teacher(path, epochs=12, distill_weight=1e9, loss=silent, val_every=12)
    trainer = new_trainer(tmp_path, shapes, config)
    trainer.fit()
    rows = list(csv.DictReader(trainer.run.results.open()))
    assert float(rows[-1]["train/distill"]) < 0.5 * float(rows[0]["train/distill"])

# SPDX-License-Identifier: Apache-2.0
"""What a training can be asked for: starting weights, an early end, a length in steps, events, a compiled model."""

from __future__ import annotations

import csv
import dataclasses
import functools
from pathlib import Path

import pytest
import torch

from centermask.config import Config, InputConfig, LossConfig, ModelConfig, TrainConfig
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.synthetic import write_shapes
from centermask.model.network import build_model
from centermask.model.weights import load_weights, save_weights, spec_of
from centermask.training.callbacks import EVENTS, Callbacks, Training
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer
from centermask_runtime.errors import UsageError

CONFIG = Config(
    "tiny",
    ModelConfig("dla_46c", head_channels=16, shape_size=8, max_detections=10),
    InputConfig(size=(64, 64)),
    TrainConfig(epochs=2, batch=2, lr=1e-3, warmup_steps=0, workers=0, loss=LossConfig(mask_grid=8)),
)
APS = (0.1, 0.3, 0.3, 0.2, 0.2, 0.4)  # of a validation that is told what to find


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[Dataset, Dataset]:
    """Five images, two steps an epoch."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, 5, seed=1, val_count=1, size_hw=(64, 64), max_objects=3)
    return load_dataset(find_split(folder, "train")), load_dataset(find_split(folder, "val"))


def with_train(**train: object) -> Config:
    return dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, **train))


def new_trainer(run: Path, shapes, config: Config = CONFIG) -> Trainer:
    return Trainer(config, *shapes, RunFolder(run), device="cpu")


def of_many_objects(trainer: Trainer) -> Trainer:
    """As if its validation set were large: one of three objects is too small for an AP to mean anything."""
    vars(trainer.validator)["objects"] = 1000
    return trainer


def tell_ap(training: Training) -> None:
    """The measured AP of epoch n becomes APS[n - 1]: no network learns so obediently."""
    assert training.evaluation is not None
    training.evaluation.metrics["segm"]["AP"] = APS[training.state.epoch]


@pytest.mark.slow
def test_a_run_stops_when_the_ap_no_longer_rises(shapes, tmp_path):
    trainer = of_many_objects(
        new_trainer(tmp_path / "run", shapes, with_train(epochs=6, patience=2, checkpoint_every=1))
    )
    steps: list[int] = []
    trainer.callbacks.add("on_val_end", tell_ap)
    trainer.callbacks.add("on_train_batch_end", lambda training: steps.append(training.state.step))
    trainer.fit()
    # the third is as good as the second and has seen more, but the AP did not rise any more
    assert trainer.state.epoch == 4 and trainer.state.best_epoch == 3 and steps == list(range(1, 9))
    assert len(list(csv.DictReader(trainer.run.results.open()))) == 4
    again = Trainer(trainer.config, *shapes, trainer.run, device="cpu")
    again.resume()
    again.fit()
    assert again.state.step == 8  # a run that stopped early stays so


@pytest.mark.slow
def test_without_patience_a_run_goes_to_its_end(shapes, tmp_path):
    trainer = of_many_objects(new_trainer(tmp_path / "run", shapes, with_train(epochs=4)))
    trainer.callbacks.add("on_val_end", tell_ap)
    trainer.fit()
    assert trainer.state.epoch == 4 and trainer.state.best_epoch == 3


@pytest.mark.slow
def test_starting_weights_reach_the_model_and_its_average(shapes, tmp_path):
    torch.manual_seed(7)
    spec = spec_of(CONFIG, shapes[0].class_names, shapes[0].category_ids)
    source = build_model(CONFIG, 3)
    save_weights(tmp_path / "start.safetensors", source.state_dict(), spec, CONFIG)
    trainer = new_trainer(tmp_path / "run", shapes, with_train(lr=1e-12, ema=0.0))
    before = trainer.learner.model.state_dict()["base.level0.0.weight"].clone()
    report = trainer.start_from(tmp_path / "start.safetensors")
    assert len(report.used) == len(source.state_dict()) and not report.mismatched
    for name, tensor in source.state_dict().items():
        assert torch.equal(trainer.learner.model.state_dict()[name], tensor), name
        assert torch.equal(trainer.learner.average.state_dict()[name], tensor), name
    trainer.fit()
    model, spec, _ = load_weights(trainer.run.last)
    assert spec.provenance["started_from"] == "start.safetensors"
    first = model.state_dict()["base.level0.0.weight"]
    torch.testing.assert_close(first, source.state_dict()["base.level0.0.weight"])
    assert not torch.allclose(first, before)
    resumed = Trainer(trainer.config, *shapes, trainer.run, device="cpu")
    resumed.resume()
    assert resumed.learner.spec.provenance == spec.provenance


def test_a_length_in_steps_ends_inside_an_epoch(shapes, tmp_path):
    trainer = new_trainer(tmp_path / "run", shapes, with_train(steps=3, epochs=73))
    trainer.fit()
    rows = list(csv.DictReader(trainer.run.results.open()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "2"), ("2", "3")]
    assert float(rows[1]["memory_gib"]) >= float(rows[0]["memory_gib"]) > 0.05
    assert all(float(row["val/segm_AP"]) >= 0 for row in rows)  # the last epoch is validated, though it is a part


def test_events_come_in_order(shapes, tmp_path):
    trainer = new_trainer(tmp_path / "run", shapes, with_train(epochs=2, val_every=2))
    heard: list[str] = []
    for event in EVENTS:
        trainer.callbacks.add(event, lambda trainer, event=event: heard.append(event.removeprefix("on_")))
    sizes: list[int] = []
    trainer.callbacks.add("on_train_batch_start", lambda trainer: sizes.append(len(trainer.batches[0].images)))
    trainer.fit()
    steps = ["train_batch_start", "train_batch_end"] * 2
    saved = ["model_save", "fit_epoch_end"]
    assert heard == [
        "pretrain_routine_start", "pretrain_routine_end", "train_start",
        "train_epoch_start", *steps, "train_epoch_end", *saved,
        "train_epoch_start", *steps, "train_epoch_end", "val_start", "val_end", *saved,
        "train_end",
    ]  # fmt: skip
    assert sizes == [2, 2, 2, 2]
    assert trainer.evaluation is not None and trainer.result is not None and trainer.row["epoch"] == 2


def test_an_unknown_event_is_refused():
    with pytest.raises(UsageError, match=r"no training event 'on_epoch_end'; did you mean 'on_\w*epoch_end'"):
        Callbacks().add("on_epoch_end", print)


@pytest.mark.slow
def test_a_compiled_model_trains_as_a_plain_one(shapes, tmp_path, monkeypatch):
    """Traced by PyTorch's compiler and run as traced: code for a CPU would take minutes to generate."""
    config = with_train(epochs=1)
    plain = new_trainer(tmp_path / "plain", shapes, config)
    plain.fit()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compiled = new_trainer(
        tmp_path / "compiled",
        shapes,
        dataclasses.replace(config, train=dataclasses.replace(config.train, compile=True)),
    )
    compiled.fit()
    for name, tensor in plain.learner.model.state_dict().items():
        torch.testing.assert_close(compiled.learner.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)


def test_compiling_without_a_compiler_is_refused(shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"train\.compile needs a C\+\+ compiler"):
        new_trainer(tmp_path / "run", shapes, with_train(compile=True))
    assert not (tmp_path / "run").exists()

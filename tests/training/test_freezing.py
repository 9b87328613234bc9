# SPDX-License-Identifier: Apache-2.0
"""Freezing: which weights of a model stay as they are through a training, and what is said of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from centermask.config import BACKBONES, Config, InputConfig, ModelConfig
from centermask.data.dataset import Dataset
from centermask.model.network import CenterMaskNet, build_model
from centermask.model.weights import save_weights, spec_of
from centermask.training.freezing import freeze
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer
from centermask_runtime.errors import UsageError
from tests.support.tiny_training import CONFIG, new_trainer, seven_shapes, tensors


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[Dataset, Dataset]:
    return seven_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def start(tmp_path_factory, shapes) -> Path:
    """Weights whose batch norms have seen something."""
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    torch.manual_seed(7)
    model = build_model(CONFIG, 3)
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
    save_weights(path, model.state_dict(), spec_of(CONFIG, shapes[0].class_names, shapes[0].category_ids), CONFIG)
    return path


def with_freeze(freeze: int | str, **train: object) -> Config:
    model = dataclasses.replace(CONFIG.model, freeze=freeze)
    return dataclasses.replace(CONFIG, model=model, train=dataclasses.replace(CONFIG.train, **train))


def frozen_levels(backbone: str, value: int | str) -> set[str]:
    """The first parts of the names of the parameters that get no gradient."""
    config = ModelConfig(backbone, head_channels=16, shape_size=8, freeze=value)  # type: ignore[arg-type]
    model = CenterMaskNet(config, InputConfig(), 3)
    freeze(model, config)
    return {".".join(name.split(".")[:2]) for name, one in model.named_parameters() if not one.requires_grad}


def test_levels_are_counted_from_the_image_on():
    stem = {"base.base_layer", "base.level0", "base.level1"}
    assert frozen_levels("dla_46c", 0) == set()
    assert frozen_levels("dla_46c", 1) == frozen_levels("dla_46c", "stem") == stem
    assert frozen_levels("dla_46c", 2) == stem | {"base.level2"}
    everything = stem | {f"base.level{level}" for level in range(2, 6)}
    assert frozen_levels("dla_46c", 5) == frozen_levels("dla_46c", "base") == everything


def test_the_levels_of_an_hourglass_are_its_stem_and_its_stacks():
    between = {"base.inters", "base.inters_", "base.cnvs_"}
    assert frozen_levels("hourglass_104", "stem") == {"base.pre"}
    assert frozen_levels("hourglass_104", 2) == {"base.pre", "base.kps", "base.cnvs"} | between
    config = ModelConfig("hourglass_104", 16, 8, freeze=2)
    model = CenterMaskNet(config, InputConfig(), 3)
    freeze(model, config)
    assert all(one.requires_grad for one in model.base.kps[1].parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_levels_hold_each_part_of_a_backbone_once(backbone):
    config = ModelConfig(backbone, head_channels=16, shape_size=8)
    base = CenterMaskNet(config, InputConfig(), 3).base
    held = [one for level in base.levels() for part in level for one in part.parameters()]
    assert len(held) == len(set(held)) and set(held) == set(base.parameters())


def test_more_levels_than_there_are_are_refused(shapes, tmp_path):
    with pytest.raises(UsageError, match=r"model\.freeze 6 is more than the 5 levels of dla_46c; name fewer, or base"):
        new_trainer(tmp_path, shapes, with_freeze(6))


def test_random_weights_are_not_frozen(shapes, tmp_path):
    trainer = new_trainer(tmp_path, shapes, with_freeze("stem"))
    with pytest.raises(UsageError, match=r"would be at random; start from other weights, or set it to 0"):
        trainer.fit()
    assert not trainer.run.path.exists()


@pytest.mark.slow
@pytest.mark.parametrize("value", ["stem", "base"])
@pytest.mark.parametrize("recompute", [False, True])
def test_frozen_levels_end_as_they_started_and_the_rest_learns(shapes, start, tmp_path, value, recompute):
    """Weights, running statistics and counters, in the trained model and in its average."""
    trainer = new_trainer(tmp_path, shapes, with_freeze(value, recompute=recompute, weight_decay=0.1))
    trainer.start_from(start)
    said: list[str] = []
    trainer.display.say = said.append  # type: ignore[method-assign]
    trainer.fit()
    before, frozen = tensors(start), frozen_levels("dla_46c", value)
    for after in (trainer.learner.model.state_dict(), tensors(trainer.run.last)):
        for name, tensor in before.items():
            if ".".join(name.split(".")[:2]) in frozen:
                assert torch.equal(tensor, after[name]), name
        moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
        assert {"up.dla_up.ida_0.proj_1.conv.weight", "heatmap.0.weight"} <= moved
    parameters = sum(one.numel() for one in trainer.learner.model.parameters() if not one.requires_grad)
    assert any(sentence.startswith(f"Frozen: {parameters:,} of ") for sentence in said)
    resumed = Trainer(trainer.config, *shapes, RunFolder(trainer.run.path), device="cpu")
    resumed.resume()
    resumed.fit()  # weights that a checkpoint brings are not random

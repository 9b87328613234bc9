# SPDX-License-Identifier: Apache-2.0
"""Where a training starts: pretrained weights unless told not to, one line that says which; a net is no must."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from centermask.config import Config, ModelConfig
from centermask.data.dataset import Dataset
from centermask.model.starting_weights import FOLDER
from centermask.model.weights import load_weights
from centermask.opening import find_model
from centermask.training import train
from centermask.training.run_folder import RunFolder
from centermask.training.starting_point import StartingPoint, begin
from centermask.training.trainer import Trainer
from centermask_runtime.errors import ModelError, UsageError
from tests.model.test_pretrained import state_of
from tests.support.hub_server import HubServer
from tests.support.published_names import timm_efficientnet_lite
from tests.support.tiny_training import CONFIG, new_trainer, seven_shapes

LITE0 = FOLDER / "imagenet_efficientnet_lite0.safetensors"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[Dataset, Dataset]:
    return seven_shapes(tmp_path_factory.mktemp("shapes"))


def with_backbone(backbone: str, **input: object) -> Config:
    model = ModelConfig(backbone, head_channels=16, shape_size=8, max_detections=10)
    return dataclasses.replace(CONFIG, model=model, input=dataclasses.replace(CONFIG.input, **input))


def begun(tmp_path: Path, shapes, config: Config, weights: str | Path | None) -> tuple[Trainer, list[str]]:
    """A trainer with its starting weights, and what it said."""
    trainer, said = new_trainer(tmp_path, shapes, config), []
    trainer.display.say = said.append  # type: ignore[method-assign]
    begin(trainer, StartingPoint.of(weights, config.model.backbone))
    return trainer, said


def test_a_training_starts_from_the_weights_that_ship_for_its_backbone(tmp_path, shapes):
    trainer, said = begun(tmp_path, shapes, with_backbone("efficientnet_lite0"), None)
    line, warning = said
    assert line == (
        "Starts from imagenet weights imagenet_efficientnet_lite0.safetensors (ImageNet weights of EfficientNet-Lite): "
        "base whole; up, heatmap, offset, size, shape, saliency at random."
    )
    assert warning.startswith(
        "The imagenet weights imagenet_efficientnet_lite0.safetensors were trained with input.mean"
    )
    assert trainer.learner.spec.provenance["started_from"] == LITE0.name
    stem = trainer.learner.average.model.base.stem.conv.weight
    random, _ = begun(tmp_path, shapes, with_backbone("efficientnet_lite0"), "none")
    assert not torch.equal(stem, random.learner.model.base.stem.conv.weight)
    assert "started_from" not in random.learner.spec.provenance


def test_the_normalisation_of_the_weights_gives_no_warning(tmp_path, shapes):
    config = with_backbone("mobilenet_v2_fpn", mean_bgr=(0.5, 0.5, 0.5), std_bgr=(0.5, 0.5, 0.5))
    _, said = begun(tmp_path, shapes, config, "coco-person")
    assert len(said) == 1 and said[0].startswith("Starts from coco-person weights coco_person_mobilenet_v2_fpn")


def test_without_a_hub_a_training_starts_from_random_weights_and_says_what_to_do(tmp_path, shapes):
    trainer, (line,) = begun(tmp_path, shapes, CONFIG, None)
    assert line.startswith("Starts from random weights, not from the imagenet weights timm/dla46_c.in1k. ")
    assert "yourself and name the file, or ask for the weights none" in line
    plain = new_trainer(tmp_path, shapes)
    state = plain.learner.model.state_dict()
    assert all(torch.equal(one, state[name]) for name, one in trainer.learner.model.state_dict().items())


def test_weights_that_were_asked_for_must_be_there(tmp_path, shapes):
    with pytest.raises(ModelError, match=r"timm/dla46_c.in1k is asked for, but HF_HUB_OFFLINE is set"):
        begun(tmp_path, shapes, CONFIG, "imagenet")


def test_a_backbone_without_known_weights_says_so(tmp_path, shapes, monkeypatch):
    monkeypatch.setattr("centermask.model.starting_weights.STARTING", ())
    _, said = begun(tmp_path, shapes, CONFIG, None)
    assert said == ["Starts from random weights: no others are known for this backbone, but a file can be named."]


@pytest.mark.parametrize(
    ("weights", "error", "words"),
    [
        ("imagnet", ModelError, r"'imagnet' is no weights file and no name of weights; did you mean 'imagenet'\?"),
        ("nuclei_dla", ModelError, r"did you mean 'nuclei_dla_46c'\?"),
        ("gone.safetensors", ModelError, "There is no weights file gone.safetensors"),
        ("coco-person", UsageError, "no coco-person weights for dla_46c, only for mobilenet_v2_fpn; take imagenet"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_opened(weights, error, words):
    with pytest.raises(error, match=words):
        StartingPoint.of(weights, "dla_46c")


def test_weights_of_other_classes_say_which_heads_they_bring(tmp_path, shapes):
    """The released model knows one class, the shapes are of three."""
    model = load_weights(find_model("nuclei"))[2].model
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(model, saliency="class_specific"))
    _, said = begun(tmp_path, shapes, config, "nuclei")
    parts = "base, up, offset, size, shape whole; heatmap, saliency in part."
    assert said == [f"Starts from nuclei (weights of CenterMask): {parts}"]


@pytest.mark.slow
def test_a_resumed_training_does_not_start_again(tmp_path, shapes):
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, epochs=1))
    weights = {"weights": "none", "device": "cpu", "plots": False, "quiet": True}
    first = train(config, shapes, run_folder=tmp_path / "run", **weights)
    trainer = Trainer(config, *shapes, RunFolder(tmp_path / "run"), device="cpu", fitted=False)
    trainer.resume()
    assert "started_from" not in trainer.learner.spec.provenance
    again = trainer.fit()
    assert again.spec == first.spec


@pytest.mark.slow
@pytest.mark.process
def test_the_command_fetches_what_does_not_ship_and_the_weights_say_so(tmp_path):
    """From a hub on this machine: the first run downloads, the second has no network."""
    seven_shapes(tmp_path / "shapes")
    config = dataclasses.replace(with_backbone("efficientnet_lite1"), name="lite1")
    (tmp_path / "lite1.yaml").write_text(config.to_yaml())
    stages = ((3, (16,)), (3, (24,) * 3), (5, (40,) * 3), (3, (80,) * 4), (5, (112,) * 4), (5, (192,) * 5), (3, (320,)))
    content = save({name: one.abs() for name, one in state_of(timm_efficientnet_lite(stages)).items()})
    command = [
        *(
            sys.executable,
            "-m",
            "centermask",
            "train",
            "--config",
            tmp_path / "lite1.yaml",
            "--steps",
            "1",
            "--no-plots",
        ),
        *("--data", tmp_path / "shapes", "--output", tmp_path / "runs", "--device", "cpu", "--name"),
    ]
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "0"}
    with HubServer() as server:
        server.files["timm/tf_efficientnet_lite1.in1k/model.safetensors"] = content
        environment["HF_ENDPOINT"] = server.url
        first = subprocess.run([*map(str, command), "one"], env=environment, capture_output=True, text=True)
    second = subprocess.run([*map(str, command), "two"], env=environment, capture_output=True, text=True)
    for run in (first, second):
        assert run.returncode in (0, 4), run.stderr  # 4: one step finds nothing
        assert "Starts from imagenet weights timm/tf_efficientnet_lite1.in1k (ImageNet weights of " in run.stdout
        assert "base whole" in run.stdout
    _, spec, _ = load_weights(tmp_path / "runs" / "two" / "weights" / "last.safetensors")
    assert spec.provenance["started_from"].startswith("timm/tf_efficientnet_lite1.in1k sha256 ")

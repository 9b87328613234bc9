# SPDX-License-Identifier: Apache-2.0
"""The table of starting weights: what it names is there, fits its backbone, and may be shipped."""

from __future__ import annotations

import pytest
from safetensors import safe_open

from centermask.config import BACKBONES, Config, InputConfig, ModelConfig, load_config
from centermask.model.network import build_model
from centermask.model.pretrained import load_starting_weights
from centermask.model.starting_weights import FOLDER, STARTING, starting_weights
from centermask_runtime.errors import UsageError
from tests.support.places import ROOT

SHIPPED = [one for one in STARTING if one.is_shipped]


def test_every_shipped_file_is_in_the_table_and_in_the_notice():
    files = {path.name for path in FOLDER.iterdir()}
    assert files == {one.place for one in SHIPPED}
    notice = (ROOT / "NOTICE").read_text()
    assert all(f"centermask/starting/{name}" in notice for name in files)


def test_backbones_of_the_table_exist_and_no_name_stands_twice_for_one():
    assert {one.backbone for one in STARTING} <= set(BACKBONES)
    assert len({(one.backbone, one.name) for one in STARTING}) == len(STARTING)


@pytest.mark.parametrize("weights", SHIPPED, ids=lambda one: one.place)
def test_a_shipped_file_fills_its_backbone_and_says_its_licence(weights):
    model = build_model(Config("x", ModelConfig(weights.backbone, 16, 8), InputConfig((64, 64))), 2)
    report = load_starting_weights(model, weights.find())
    assert "base" in report.parts()["whole"] and report.mismatched == ()
    with safe_open(weights.find(), framework="pt") as file:
        assert file.metadata()["licence"].startswith(weights.licence)


def test_a_backbone_has_one_default_or_none():
    assert starting_weights("efficientnet_lite0") == starting_weights("efficientnet_lite0", "imagenet")
    assert starting_weights("mobilenet_v2_fpn").name == "coco-person"
    assert starting_weights("dla_34").place == "timm/dla34.in1k"
    assert starting_weights("hourglass_104") is None


@pytest.mark.parametrize(
    ("backbone", "name", "words"),
    [
        (
            "mobilenet_v2_fpn",
            "imagenet",
            r"no imagenet weights for mobilenet_v2_fpn, .*; take coco-person, or name",
        ),
        ("hourglass_104", "imagenet", r"no imagenet weights for hourglass_104, only for .*; name a file, or none"),
        ("dla_34", "imagnet", r"no starting weights 'imagnet'; did you mean 'imagenet'\?"),
    ],
)
def test_weights_that_are_not_there_are_one_sentence(backbone, name, words):
    with pytest.raises(UsageError, match=words):
        starting_weights(backbone, name)


def test_another_normalisation_is_told_where_it_matters():
    person = starting_weights("mobilenet_v2_fpn")
    said = person.warning(load_config("dla_34").input)
    assert "trained with input.mean_bgr [0.5, 0.5, 0.5] and input.std_bgr [0.5, 0.5, 0.5], not [0.40789654," in said
    assert person.warning(InputConfig(mean_bgr=(0.498,) * 3, std_bgr=(0.502,) * 3)) is None
    assert starting_weights("dla_34").warning(load_config("dla_34").input) is None  # CenterNet's own numbers

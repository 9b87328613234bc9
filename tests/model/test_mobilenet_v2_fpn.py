# SPDX-License-Identifier: Apache-2.0
"""MoveNet's trunk and heads: the shipped weights compute what the published network does, in our network too."""

from __future__ import annotations

import cv2
import pytest
import torch
from torch import Tensor, nn

from centermask.config import Config, InputConfig, ModelConfig
from centermask.model.mobilenet_v2_fpn import MobileNetV2FPN, mobilenet_v2_fpn
from centermask.model.network import CenterMaskNet, build_model
from centermask.model.pretrained import WeightsReport, load_starting_weights
from tests.support.starting_weights import Folder

SHIPPED = Folder.shipped("coco_person_mobilenet_v2_fpn")
SIZE = (192, 256)


def test_level_i_is_at_stride_2_to_the_i_and_the_pyramid_is_the_seventh_map():
    network = mobilenet_v2_fpn().eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 64, 96))
    shapes = [(1, channels, 64 >> level, 96 >> level) for level, channels in enumerate(network.channels)]
    assert [tuple(one.shape) for one in maps] == [*shapes, (1, network.pyramid_channels, 16, 24)]
    assert torch.equal(maps[2][:, -network.pyramid_channels :], maps[6])


def person_model(classes: int = 1, head_channels: int = 96, **model: object) -> CenterMaskNet:
    torch.manual_seed(0)
    config = ModelConfig("mobilenet_v2_fpn", head_channels, shape_size=8, **model)  # type: ignore[arg-type]
    half = (0.5, 0.5, 0.5)
    return build_model(Config("person", config, InputConfig(SIZE, half, half)), classes).eval()


def started(**model: object) -> tuple[CenterMaskNet, WeightsReport]:
    network = person_model(**model)  # type: ignore[arg-type]
    return network, load_starting_weights(network, SHIPPED)


def photograph(data) -> Tensor:
    """A man on a horse, uint8 [1, 192, 256, 3] BGR."""
    file = sorted((data / "photos").glob("*.jpg"))[0]
    return torch.from_numpy(cv2.resize(cv2.imread(str(file)), SIZE[::-1], interpolation=cv2.INTER_AREA))[None]


@pytest.fixture(scope="module")
def published(starting_weights: Folder) -> nn.Module:
    """The published weights, in which batch norms are folded, in another implementation."""
    folder = starting_weights.path / "movenet_multipose"
    network: nn.Module = starting_weights.module("movenet").from_tfjs(str(folder / "movenet-multipose.json"))
    return network


def as_published(image: Tensor) -> Tensor:
    """RGB in [-1, 1], float [1, 3, H, W]."""
    return image.permute(0, 3, 1, 2).flip(1).float() / 127.5 - 1


@torch.no_grad()
def test_the_trunk_computes_the_published_maps(published, shared_data):
    image = photograph(shared_data)
    blocks, pyramid, _ = published(as_published(image))
    network, report = started()
    assert not any(name.startswith("base.") for name in report.untouched)
    base: MobileNetV2FPN = network.base
    maps = base(as_published(image).flip(1))
    assert torch.equal(maps[0], as_published(image).flip(1))
    for mine, theirs in (
        (maps[1], blocks[0]),
        (maps[2], torch.cat((blocks[2], pyramid[3]), 1)),
        (maps[3], torch.cat((blocks[5], pyramid[2]), 1)),
        (maps[4], torch.cat((blocks[9], blocks[12], pyramid[1]), 1)),
        (maps[5], torch.cat((blocks[16], pyramid[0]), 1)),
        (maps[6], pyramid[3]),
    ):
        torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=1e-3)  # fp16 rounds nothing that was fp16


@torch.no_grad()
def test_the_heads_of_a_one_class_model_compute_the_published_ones(published, shared_data):
    """Before any training: heat map as it is, sizes and offsets with x before y."""
    image = photograph(shared_data)
    *_, heads = published(as_published(image))
    network, _ = started()
    found = network.heads(image)
    for mine, theirs in (
        (found.heatmap, heads["center"]), (found.sizes, heads["box_scale"].flip(1)),
        (found.offsets, heads["box_offset"].flip(1)),
    ):  # fmt: skip
        assert (mine - theirs).abs().max() < 2e-3 * theirs.abs().max()  # two convolutions are one, rounded to fp16
    features = network.features(image)
    hidden = published.heads["kpt_heatmap"][0](published(as_published(image))[1][-1])
    found_hidden = network.shape[1](network.shape[0](features))
    assert (found_hidden - hidden).abs().max() < 2e-3 * hidden.abs().max()


def test_what_the_heads_take_is_reported():
    network, report = started()
    heads = ("heatmap", "size", "offset")
    whole = {f"{head}.{layer}.{part}" for head in heads for layer in (0, 2) for part in ("weight", "bias")}
    hidden = {f"{head}.0.{part}" for head in ("shape", "saliency") for part in ("weight", "bias")}
    base = {name for name in network.state_dict() if name.startswith("base.") and "tracked" not in name}
    assert set(report.used) == base | whole | hidden
    assert {name for name in report.untouched if not name.startswith("up.")} == {
        f"{head}.2.{part}" for head in ("shape", "saliency") for part in ("weight", "bias")
    }
    assert report.layout == "MoveNet MultiPose Lightning"


@pytest.mark.parametrize("model", [{"classes": 2}, {"head_channels": 64}])
def test_heads_of_several_classes_or_narrower_ones_start_at_random(model):
    before, (network, report) = person_model(**model).state_dict(), started(**model)
    assert all(name.startswith("base.") for name in report.used)
    for name, tensor in network.state_dict().items():
        if not name.startswith("base."):
            assert torch.equal(tensor, before[name]), name


@torch.no_grad()
def test_wider_heads_start_the_same_way():
    """What is more than the published heads have does not change their result."""
    image = torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8)
    narrow, wide = started()[0].heads(image), started(head_channels=128)[0].heads(image)
    for name in ("heatmap", "sizes", "offsets"):
        torch.testing.assert_close(getattr(wide, name), getattr(narrow, name), atol=1e-4, rtol=1e-5)


def test_the_first_step_opens_the_way_into_the_up_path():
    """The heads begin with weight 0 for what the up path computes; from the second step on everything learns."""
    network, _ = started()
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4)
    image = torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8)
    cells = torch.tensor([[5, 5], [9, 30]])
    without = []
    for _ in range(2):
        optimizer.zero_grad()
        outputs = network(image, torch.tensor([0, 1]), cells)
        parts = (outputs.heatmap, outputs.saliency, outputs.offsets, outputs.sizes, outputs.shapes)
        torch.stack([part.square().mean() for part in parts]).sum().backward()
        optimizer.step()
        without.append({name for name, one in network.named_parameters() if one.grad is None or not one.grad.any()})
    assert without == [{name for name, _ in network.named_parameters() if name.startswith("up.")}, set()]

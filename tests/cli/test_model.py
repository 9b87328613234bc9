# SPDX-License-Identifier: Apache-2.0
"""`centermask model`: its numbers are those computed by hand from the layers, and those of the graph that runs."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from centermask.cli.model import model as command
from centermask.config import Config, InputConfig, ModelConfig, load_config
from centermask.model.cost import model_cost
from centermask.model.network import build_model
from centermask_runtime.errors import CenterMaskError, ModelError, UsageError
from tests.support.places import ROOT

CONFIGS = ROOT / "configs"
RELEASED = ROOT / "centermask" / "released" / "nuclei_dla_46c.safetensors"


def run(*arguments: object, error: type[CenterMaskError] | None = None) -> str:
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if error is not None:
        assert isinstance(result.exception, error)
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return result.stdout


def conv(cells: int, kernel: int, into: int, out: int) -> int:
    return 2 * cells * kernel * kernel * into * out


def dla_34_backbone(side: int) -> int:
    """By hand from Figure 3 of the paper and the published code: blocks of two 3x3, roots and projections of 1x1."""
    full, half, quarter = side * side, (side // 2) ** 2, (side // 4) ** 2
    flop = conv(full, 7, 3, 16) + conv(full, 3, 16, 16) + conv(half, 3, 16, 32)
    flop += (
        conv(quarter, 3, 32, 64) + 3 * conv(quarter, 3, 64, 64) + conv(quarter, 1, 32, 64) + conv(quarter, 1, 128, 64)
    )
    for cells, into, out in (((side // 8) ** 2, 64, 128), ((side // 16) ** 2, 128, 256)):  # trees of two trees
        flop += conv(cells, 3, into, out) + 7 * conv(cells, 3, out, out) + conv(cells, 1, into, out)
        flop += conv(cells, 1, 2 * out, out) + conv(cells, 1, 3 * out + into, out)
    last = (side // 32) ** 2
    flop += conv(last, 3, 256, 512) + 3 * conv(last, 3, 512, 512) + conv(last, 1, 256, 512)
    return flop + conv(last, 1, 2 * 512 + 256, 512)


def dla_34_up_path(side: int) -> int:
    """Each merge: a 3x3 on the coarse map, a depthwise transposed convolution (every tap once a coarse cell), a 3x3 on
    the fine map."""

    def merge(fine: int, factor: int, into: int, out: int) -> int:
        coarse = fine // factor
        raise_ = 2 * coarse * coarse * (2 * factor) ** 2 * out
        return conv(coarse * coarse, 3, into, out) + raise_ + conv(fine * fine, 3, out, out)

    s16, s8, s4 = side // 16, side // 8, side // 4
    flop = merge(s16, 2, 512, 256)
    flop += merge(s8, 2, 256, 128) + merge(s8, 2, 256, 128)
    flop += 3 * merge(s4, 2, 128, 64)
    return flop + merge(s4, 2, 128, 64) + merge(s4, 4, 256, 64)


@pytest.mark.parametrize("side", [512, 256])
def test_dla_34_costs_what_its_layers_cost_by_hand(side):
    facts = json.loads(run(CONFIGS / "dla_34.yaml", "--imgsz", side, "--json"))
    parts = {part["name"]: part for part in facts["parts"]}
    cells = (side // 4) ** 2
    assert parts["backbone"]["dense_flop"] == dla_34_backbone(side)
    assert parts["up path"]["dense_flop"] == dla_34_up_path(side)
    for name, outputs in (("heatmap", 80), ("saliency", 80), ("offset", 2), ("size", 2), ("shape", 1024)):
        head, sparse = parts[f"{name} head"], name in ("offset", "size", "shape")
        assert head["dense_flop"] == conv(cells, 3, 64, 256) + conv(cells, 1, 256, outputs)
        assert head["sparse_flop"] == head["dense_flop"] // (cells if sparse else 1) * (100 if sparse else 1)
        assert head["parameters"] == 9 * 64 * 256 + 256 + 256 * outputs + outputs
    total = facts["total"]
    if side == 512:
        assert (round(total["dense_flop"] / 1e9, 2), round(total["sparse_flop"] / 1e9, 2)) == (80.34, 57.36)
    assert total["parameters"] == sum(part["parameters"] for part in facts["parts"]) == 19_573_588


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig("dla_46c", 16, 16, "class_specific", 20),
        ModelConfig("dla_46c", 16, 32, "class_agnostic", 7, deformable=True),
    ],
    ids=["plain", "deformable"],
)
def test_the_sum_of_the_parts_is_what_the_whole_graph_counts(model):
    config = Config("tiny", model, InputConfig(size=(64, 96)))
    cost, whole = model_cost(config, 3), build_model(config, 3).eval()
    images = torch.zeros(1, 64, 96, 3, dtype=torch.uint8)
    for graph, expected in ((whole.peaks, cost.total.sparse_flop), (whole.peaks_dense, cost.total.dense_flop)):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            graph(images)
        assert counter.get_total_flops() == expected
    assert cost.total.parameters == sum(parameter.numel() for parameter in whole.parameters())


def test_s_k_classes_and_saliency_come_from_the_config():
    base = load_config(CONFIGS / "dla_46c.yaml")
    few = ("--set", "model.shape_size=16", "--set", "model.max_detections=20", "--set", "model.saliency=class_agnostic")
    facts = json.loads(run(CONFIGS / "dla_46c.yaml", "--classes", 3, *few, "--json"))
    parts = {part["name"]: part for part in facts["parts"]}
    width = base.model.head_channels
    first = 9 * 64 * width
    assert parts["shape head"]["sparse_flop"] == 2 * 20 * (first + width * 16 * 16)
    assert parts["saliency head"]["parameters"] == first + width + width + 1
    assert parts["heatmap head"]["parameters"] == first + width + 3 * width + 3


def test_the_hourglass_is_the_published_one_with_two_more_heads_a_stack():
    """Published: 191,284,008 with heat map, size and offset on both stacks."""
    facts = json.loads(run(CONFIGS / "hourglass_104.yaml", "--json"))
    parts = {part["name"]: part["parameters"] for part in facts["parts"]}
    ours = parts["shape head"] + parts["saliency head"]
    assert facts["total"]["parameters"] - 2 * ours == 191_284_008
    early = next(part for part in facts["parts"] if part["name"].startswith("early"))
    assert early["dense_flop"] == early["sparse_flop"] == 0
    assert early["parameters"] == sum(
        parts[f"{name} head"] for name in ("heatmap", "offset", "size", "shape", "saliency")
    )


def test_the_table_names_every_part_and_what_a_weights_file_brings():
    text = run(CONFIGS / "nuclei_dla_46c.yaml", "--classes", 2, "--weights", RELEASED)
    for word in ("backbone", "up path", "shape head", "GFLOP dense", "GFLOP sparse", "total", "2,630,"):
        assert word in text
    flat = " ".join(text.split())
    assert "410 tensors used, 2 of another shape, 0 without a place" in flat
    assert "heatmap.2.bias: [1] in the file, [2] in the model" in flat


def test_mistakes_are_named():
    assert "multiples of 128" in run(CONFIGS / "hourglass_104.yaml", "--imgsz", 480, error=UsageError)
    assert f"did you mean '{CONFIGS / 'dla_34.yaml'}'?" in run(CONFIGS / "dla34.yaml", error=UsageError)
    assert "There is no weights file" in run(CONFIGS / "dla_46c.yaml", "--weights", "none.pth", error=ModelError)

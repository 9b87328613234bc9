# SPDX-License-Identifier: Apache-2.0
"""Deformable convolutions: a slow float64 loop is the truth, for values and for gradients."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from centermask.config import Config, InputConfig, LossConfig, ModelConfig, load_config
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import TrainingSet, collate
from centermask.data.synthetic import write_shapes
from centermask.model.deformable import DeformableConv, deformable_conv
from centermask.model.network import build_model
from centermask.model.torch_network import TorchNetwork
from centermask.model.upsampling import UpPath
from centermask.model.weights import spec_of
from centermask.training.losses import centermask_losses
from centermask_export.checks.outputs import TOLERANCES, compare_networks
from centermask_export.to_onnx import export_onnx
from centermask_runtime.errors import UsageError
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from tests.support.places import ROOT

CONFIG = Config(
    "tiny_dcn",
    ModelConfig("dla_46c", 16, shape_size=16, saliency="class_specific", max_detections=20, deformable=True),
    InputConfig(size=(64, 96), mean_bgr=(0.3, 0.3, 0.3), std_bgr=(0.25, 0.25, 0.25)),
)


def loop(x, offsets, modulation, weight, bias):
    """The definition (DCNv2, eq. 1), one multiplication at a time, in float64. NumPy arrays in and out."""
    count, channels, height, width = x.shape
    out = np.zeros((count, len(weight), height, width)) + bias[:, None, None]

    def pixel(n, y, x_):  # [C]; zero outside
        return x[n, :, y, x_] if 0 <= y < height and 0 <= x_ < width else np.zeros(channels)

    for n in range(count):
        for row in range(height):
            for column in range(width):
                for tap in range(9):
                    y = row + tap // 3 - 1 + offsets[n, 2 * tap, row, column]
                    x_ = column + tap % 3 - 1 + offsets[n, 2 * tap + 1, row, column]
                    y0, x0 = int(np.floor(y)), int(np.floor(x_))
                    fy, fx = y - y0, x_ - x0
                    read = (
                        (1 - fy) * (1 - fx) * pixel(n, y0, x0) + (1 - fy) * fx * pixel(n, y0, x0 + 1)
                        + fy * (1 - fx) * pixel(n, y0 + 1, x0) + fy * fx * pixel(n, y0 + 1, x0 + 1)
                    )  # fmt: skip
                    taps = weight[:, :, tap // 3, tap % 3]
                    out[n, :, row, column] += taps @ read * modulation[n, tap, row, column]
    return out


def case(reach, height=5, width=7, seed=0):
    """x, offsets, modulation, weight, bias in float64; offsets up to `reach` cells either way."""
    g = torch.Generator().manual_seed(seed)
    n, c, out = 2, 3, 4

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    offsets = (torch.rand(n, 18, height, width, generator=g, dtype=torch.float64) * 2 - 1) * reach
    modulation = torch.rand(n, 9, height, width, generator=g, dtype=torch.float64)
    return draw(n, c, height, width), offsets, modulation, draw(out, c, 3, 3), draw(out)


def to_the_border(parts):
    """Every tap of every cell on an edge pixel's centre, exactly one cell outside, or half way between the two."""
    x, offsets, *rest = parts
    height, width = x.shape[2:]
    taps = torch.arange(9).view(1, 9, 1, 1)
    rows, columns = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    places = torch.arange(offsets[:, ::2].numel()).view(offsets[:, ::2].shape)

    def reach(length, at):  # -1, -0.5, 0, last, last + 0.5, length in turn
        ends = torch.tensor([-1, -0.5, 0, length - 1, length - 0.5, length], dtype=torch.float64)
        return ends[at % 6]

    y = reach(height, places) - (rows + taps // 3 - 1)
    x_ = reach(width, places // 6) - (columns + taps % 3 - 1)
    return x, torch.stack((y, x_), 2).flatten(1, 2), *rest


CASES = {
    "near": lambda: case(1.5),
    "far outside": lambda: case(40.0),
    "none": lambda: case(0.0),
    "borders": lambda: to_the_border(case(0.0)),
    "one row": lambda: case(2.0, height=1),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_loop(name):
    """float64: sums in another order, 1e-15 each. float32: a position is right to 2 ulp of a number below 2 times half
    the width, 7e-7 cells, and neighbours differ by up to 8; 27 products of such readings stay below 1e-4."""
    parts = CASES[name]()
    truth = loop(*(part.numpy() for part in parts))
    np.testing.assert_allclose(deformable_conv(*parts), truth, atol=1e-12)
    single = deformable_conv(*(part.float() for part in parts))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, truth, atol=1e-4)


def test_without_offsets_it_is_half_a_plain_convolution_at_the_start():
    torch.manual_seed(0)
    conv, x = DeformableConv(5, 6), torch.randn(2, 5, 8, 9)
    plain = nn.functional.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x), plain / 2, atol=1e-6, rtol=1e-5)


def test_offsets_and_modulation_come_in_centernets_order():
    """y and x of each tap in turn, then nine logits: tap 5 (right of the centre) is moved two down and one left."""
    conv, x = DeformableConv(1, 1), torch.randn(1, 1, 6, 6)
    with torch.no_grad():
        conv.weight.zero_()
        conv.weight[0, 0, 1, 2] = 1.0
        conv.conv_offset_mask.bias[10], conv.conv_offset_mask.bias[11] = 2.0, -1.0
        conv.conv_offset_mask.bias[18 + 5] = 100.0
        out = conv(x)
    torch.testing.assert_close(out[0, 0, :4], x[0, 0, 2:])
    assert not out[0, 0, 4:].any()


def test_half_precision_features_are_read_at_full_precision_positions():
    """The features alternate between 0 and 1, so a position that is wrong by 1/80 of a cell, as fp16's are at 128
    cells, shows as 0.0125; one rounding of the result to fp16 is 2.4e-4, one of the offset 1.2e-4."""
    stripes = (torch.arange(128.0) % 2).repeat(3, 1)[None, None]
    offsets = torch.zeros(1, 18, 3, 128)
    offsets[:, 1::2] = 0.3
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1] = 1
    parts = (stripes, offsets, torch.ones(1, 9, 3, 128), weight, torch.zeros(1))
    out = deformable_conv(*(part.half() for part in parts))
    assert out.dtype == torch.float16
    expected = torch.where(stripes[0, 0, 0, :127] == 1, 0.7, 0.3)
    assert float((out[0, 0, 1, :127].float() - expected).abs().max()) < 1e-3


@pytest.mark.parametrize("name", ["near", "far outside"])
def test_gradients_are_those_of_the_loop(name):
    """Backpropagation against central differences of the loop itself, in float64, in ten random directions."""
    parts = [part.requires_grad_() for part in (case(1.5) if name == "near" else case(6.0, seed=3))]
    upstream = torch.randn(2, 4, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    (deformable_conv(*parts) * upstream).sum().backward()
    arrays, step = [part.detach().numpy() for part in parts], 1e-6
    rng = np.random.default_rng(4)
    for index, part in enumerate(parts):
        for _ in range(2):
            direction = rng.normal(size=part.shape)
            ends = []
            for sign in (1, -1):
                moved = list(arrays)
                moved[index] = arrays[index] + sign * step * direction
                ends.append((loop(*moved) * upstream.numpy()).sum())
            slope = (ends[0] - ends[1]) / (2 * step)
            # bilinear reading has kinks at whole positions; none of these lies within 1e-6 of one
            assert (part.grad.numpy() * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-6)


# ---- in the network -------------------------------------------------------------------------------------------------


def test_the_up_path_has_centernets_names():
    names = set(UpPath((16, 32, 64, 128, 256, 512), "deformable").state_dict())
    one = {"conv.weight", "conv.bias", "conv.conv_offset_mask.weight", "conv.conv_offset_mask.bias"}
    for kind in ("proj_1", "node_1"):
        assert {f"dla_up.ida_0.{kind}.{name}" for name in one} <= names


def test_the_config_asks_for_it_and_an_hourglass_refuses():
    assert load_config(ROOT / "configs" / "dla_34_dcn.yaml").model.deformable
    with pytest.raises(UsageError, match=r"model\.deformable is for the up path of a DLA"):
        dataclasses.replace(CONFIG, model=ModelConfig("hourglass_104", deformable=True), input=InputConfig())


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, 4, seed=1, size_hw=CONFIG.input.size)
    return load_dataset(find_split(folder, "train"))


@pytest.fixture(scope="module")
def trained(shapes):
    """Class-specific saliency of three classes, S = 16, K = 20; a few steps, so that offsets are no longer zero."""
    torch.manual_seed(0)
    model = build_model(CONFIG, 3).train()
    samples = TrainingSet(shapes, CONFIG, augmented=False)
    batch = collate([samples[index] for index in range(4)])
    assert len(batch.labels.unique()) > 1
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    history = []
    for _ in range(6):
        losses = centermask_losses(model(batch.images, batch.image_index, batch.cells), batch, LossConfig())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(losses.total.item())
    with torch.no_grad():  # few steps move offsets little: sampling between pixels, and outside, is what is to be shown
        for name, parameter in model.named_parameters():
            if name.endswith("conv_offset_mask.weight"):
                parameter.add_(torch.randn_like(parameter) * 0.05)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    with torch.no_grad():
        model.features(batch.images)
    return model.eval(), history


@pytest.mark.slow
def test_it_trains(trained):
    model, history = trained
    assert history[-1] < 0.8 * history[0]
    moved = [p for name, p in model.named_parameters() if name.endswith("conv_offset_mask.bias")]
    assert len(moved) == 16 and all(bool(bias.any()) for bias in moved)


# ---- exported -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(trained, shapes, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "tiny_dcn.onnx"
    return path, export_onnx(trained[0], spec_of(CONFIG, shapes.class_names, shapes.category_ids), path)


@pytest.mark.slow
def test_onnx_runtime_gives_what_pytorch_gives(trained, shapes, exported):
    path, spec = exported
    graph = onnx.load(path).graph
    sides = {one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in graph.output}
    assert sides["shapes"] == [1, 20, 16, 16] and sides["saliency"] == [1, 3, 16, 24]  # K, S, classes
    operators = {node.op_type for node in graph.node}
    assert "GridSample" in operators and "DeformConv" not in operators  # only ONNX Runtime knows the latter
    with OnnxRuntimeNetwork(path) as network:
        frames = (shapes.image(index) for index in range(3))
        compare_networks(TorchNetwork(trained[0], spec), network, frames).require(path)


@pytest.mark.slow
def test_openvino_gives_what_onnx_runtime_gives(shapes, exported):
    openvino = pytest.importorskip("openvino")
    path, spec = exported
    images = shapes.image(0)[None]  # drawn in the input's size
    assert images.shape[1:3] == spec.input_hw
    core = openvino.Core()
    compiled = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    ours, theirs = compiled(images), onnxruntime.InferenceSession(path).run(None, {"images": images})
    for name, index in (("scores", 0), ("saliency", 4)):  # the others come in an order that ties may change
        np.testing.assert_allclose(ours[index], theirs[index], atol=TOLERANCES[name])


@pytest.mark.slow
def test_tensorrt_rtx_builds_an_engine_of_it(exported):
    """Its parser takes every node, and its builder fuses them; running it needs a GPU."""
    rtx = pytest.importorskip("tensorrt_rtx")
    logger = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(logger)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(exported[0].read_bytes()), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    assert builder.build_serialized_network(network, builder.create_builder_config()) is not None

# SPDX-License-Identifier: Apache-2.0
"""Hourglass-104: the published network by name, number and value; trained on both stacks, exported with the last."""

from __future__ import annotations

import dataclasses
import importlib.util

import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from centermask.config import Config, InputConfig, LossConfig, ModelConfig, load_config, parse_config
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import TrainingSet, collate
from centermask.model import network
from centermask.model.hourglass import Hourglass, hourglass_104
from centermask.model.network import CenterMaskNet, build_model
from centermask.model.torch_network import TorchNetwork
from centermask.model.weights import load_weights, save_weights, spec_of
from centermask.training.losses import Losses, centermask_losses
from centermask_export.checks.outputs import compare_networks
from centermask_export.engines.to_tensorrt import write_tensorrt
from centermask_export.options import ExportOptions
from centermask_export.to_onnx import export_onnx
from centermask_runtime.errors import UsageError
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from tests.support.places import NUCLEI, ROOT
from tests.support.published_names import centernet_hourglass

# multiples of 16: of others oneDNN's gradient of a 1x1 convolution with stride 2 writes out of bounds (PyTorch 2.13)
STEM, CHANNELS, BLOCKS, FEATURES = 16, (16, 16, 32, 32, 32, 48), (1, 2, 1, 1, 2, 1), 16
CONFIG = Config(
    "tiny_hourglass",
    ModelConfig("hourglass_104", 16, shape_size=8, saliency="class_agnostic", max_detections=30),
    InputConfig(size=(128, 128), mean_bgr=(0.3, 0.3, 0.3), std_bgr=(0.25, 0.25, 0.25)),
)


def small() -> Hourglass:
    """Every kind of connection of the large one, in thin."""
    return Hourglass(2, STEM, CHANNELS, BLOCKS, FEATURES)


@pytest.fixture(autouse=True, scope="module")
def thin_hourglass():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(network.BACKBONES, "hourglass_104", small)
        yield


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ---- as published ---------------------------------------------------------------------------------------------------


def test_names_shapes_and_number_of_parameters_are_the_published_ones():
    """CenterNet's checkpoint of 80 classes has 191,284,008 parameters; 3,583,656 of them are its heads."""
    with torch.device("meta"):
        ours = hourglass_104()
    heads = ("hm.", "wh.", "reg.")
    published = {name: shape for name, shape in centernet_hourglass().items() if not name.startswith(heads)}
    assert {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()} == published
    assert parameters(ours) == 191_284_008 - 3_583_656


def published_forward(state: dict[str, torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
    """exkp.forward of large_hourglass.py, as functions of its state dict, in evaluation mode."""

    def norm(name, y):
        values = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(y, *values)

    def conv(name, y, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(y, weight, stride=stride, padding=weight.shape[-1] // 2)

    def convolution(name, y, stride=1):
        return F.relu(norm(f"{name}.bn", conv(f"{name}.conv", y, stride)))

    def residual(name, y, stride=1):
        inner = F.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", y, stride)))
        inner = norm(f"{name}.bn2", conv(f"{name}.conv2", inner))
        skip = norm(f"{name}.skip.1", conv(f"{name}.skip.0", y, stride)) if f"{name}.skip.0.weight" in state else y
        return F.relu(inner + skip)

    def row(name, y, stride=1):
        i = 0
        while f"{name}.{i}.conv1.weight" in state:
            y = residual(f"{name}.{i}", y, stride if i == 0 else 1)
            i += 1
        assert i > 0
        return y

    def kp_module(name, y):
        inner = kp_module if f"{name}.low2.up1.0.conv1.weight" in state else row
        low = row(f"{name}.low3", inner(f"{name}.low2", row(f"{name}.low1", y, 2)))
        return row(f"{name}.up1", y) + low.repeat_interleave(2, 2).repeat_interleave(2, 3)

    inter = residual("pre.1", convolution("pre.0", x, 2), 2)
    features = []
    for stack in range(2):
        features.append(convolution(f"cnvs.{stack}", kp_module(f"kps.{stack}", inter)))
        if stack == 0:
            ours = norm("inters_.0.1", conv("inters_.0.0", inter))
            inter = F.relu(ours + norm("cnvs_.0.1", conv("cnvs_.0.0", features[0])))
            inter = residual("inters.0", inter)
    return features


def test_it_computes_what_the_published_code_computes():
    torch.manual_seed(0)
    ours = small().eval()
    with torch.no_grad():
        for module in ours.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        x = torch.randn(2, 3, 128, 256)
        features, truth = ours(x), published_forward(ours.state_dict(), x)
    assert [tuple(one.shape) for one in features] == [(2, FEATURES, 32, 64)] * 2
    for one, other in zip(features, truth, strict=True):
        assert other.std() > 0.01
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("key", ["input.size", "train.crop"])
def test_sides_must_be_multiples_of_128(key):
    text = "name: x\nmodel: {backbone: hourglass_104}"
    parse_config(text, "file", [f"{key}=[128, 384]"])
    with pytest.raises(UsageError, match=rf"{key} must be two positive multiples of 128 .* not \[160, 128\]"):
        parse_config(text, "file", [f"{key}=[160, 128]"])
    config = load_config(ROOT / "configs" / "hourglass_104.yaml")
    assert config.model.backbone == "hourglass_104" and config.model.size_multiple == 128


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batch():
    samples = TrainingSet(load_dataset(find_split(NUCLEI, "train")), CONFIG, augmented=False)
    return collate([samples[0], samples[1]])


def test_the_loss_is_the_mean_of_both_stacks_and_reaches_every_parameter(batch):
    torch.manual_seed(0)
    model = build_model(CONFIG, 1).train()
    outputs = model(batch.images, batch.image_index, batch.cells)
    assert len(outputs.early) == 1 and not torch.equal(outputs.early[0].heatmap, outputs.heatmap)
    losses = centermask_losses(outputs, batch, LossConfig())
    first = centermask_losses(outputs.early[0], batch, LossConfig())
    last = centermask_losses(outputs._replace(early=()), batch, LossConfig())
    for name, mean, a, b in zip(Losses._fields, losses, first, last, strict=True):
        torch.testing.assert_close(mean, (a + b) / 2, msg=name)
    losses.total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.fixture(scope="module")
def trained(batch) -> tuple[CenterMaskNet, list[float]]:
    torch.manual_seed(0)
    model = build_model(CONFIG, 1).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    history = []
    for _ in range(8):
        losses = centermask_losses(model(batch.images, batch.image_index, batch.cells), batch, LossConfig())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append(losses.total.item())
    return model.eval(), history


def test_it_trains(trained):
    assert trained[1][-1] < 0.8 * trained[1][0]


def test_weights_keep_the_early_heads(trained, tmp_path, batch):
    spec = spec_of(CONFIG, ("nucleus",), (1,))
    save_weights(tmp_path / "hg.safetensors", trained[0].state_dict(), spec, CONFIG)
    again, _, config = load_weights(tmp_path / "hg.safetensors")
    assert config == CONFIG and any(name.startswith("early.0.shape.") for name in again.state_dict())
    with torch.no_grad():
        assert torch.equal(again.peaks(batch.images).scores, trained[0].peaks(batch.images).scores)


# ---- inference ------------------------------------------------------------------------------------------------------


def test_weights_of_an_older_release_know_their_sides_too(trained, tmp_path):
    """Their specification does not say that they must be multiples of 128; their config does."""
    spec = spec_of(CONFIG, ("nucleus",), (1,))
    assert spec.size_multiple == 128
    old = dataclasses.replace(spec, size_multiple=32)
    save_weights(tmp_path / "old.safetensors", trained[0].state_dict(), old, CONFIG)
    assert load_weights(tmp_path / "old.safetensors")[1] == spec


def test_inference_uses_the_last_stack_only(trained, batch):
    model = trained[0]
    with torch.no_grad():
        before = model.peaks(batch.images)
        for parameter in model.early.parameters():
            parameter.add_(1.0)
        after = model.peaks(batch.images)
        for parameter in model.early.parameters():
            parameter.sub_(1.0)
        last = model.heatmap(model.base(_pixels(model, batch.images))[1])
        best = torch.where(F.max_pool2d(last, 3, 1, 1) == last, last.sigmoid(), 0).flatten(1).max(1).values
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    torch.testing.assert_close(before.scores[:, 0], best)


def _pixels(model: CenterMaskNet, images: torch.Tensor) -> torch.Tensor:
    return (images.float().permute(0, 3, 1, 2) - model.mean) / model.std


@pytest.mark.slow
def test_onnx_runtime_gives_what_pytorch_gives_and_tensorrt_rtx_builds_it(trained, tmp_path):
    path = tmp_path / "hg.onnx"
    spec = export_onnx(trained[0], spec_of(CONFIG, ("nucleus",), (1,)), path)
    dataset = load_dataset(find_split(NUCLEI, "val"))
    with OnnxRuntimeNetwork(path) as onnx_network:
        frames = (dataset.image(index) for index in range(2))
        compare_networks(TorchNetwork(trained[0], spec), onnx_network, frames).require(path)
    tensors = [tensor.name for tensor in onnx.load(path).graph.initializer]
    assert any(".kps.1." in name for name in tensors) and not any(".early." in name for name in tensors)
    if importlib.util.find_spec("tensorrt_rtx"):
        engine = write_tensorrt(path, spec, tmp_path / "hg.engine", ExportOptions(format="trt-rtx"))
        assert (
            engine.description.precision == "fp32" and (tmp_path / "hg.engine").stat().st_size > path.stat().st_size / 2
        )

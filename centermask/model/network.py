# SPDX-License-Identifier: Apache-2.0
"""CenterMask (Wang et al., CVPR 2020): backbone, up path and five heads, in training, evaluation and export alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from centermask.config import STRIDE, Config, InputConfig, ModelConfig
from centermask.model.dla import DLA, dla_34, dla_46c
from centermask.model.efficientnet_lite import (
    EfficientNetLite,
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
)
from centermask.model.heads import Head, neighbourhoods
from centermask.model.hourglass import Hourglass, hourglass_104
from centermask.model.mobilenet_v2_fpn import MobileNetV2FPN, mobilenet_v2_fpn
from centermask.model.upsampling import UpPath

Backbone = DLA | EfficientNetLite | MobileNetV2FPN | Hourglass
BACKBONES: dict[str, Callable[[], Backbone]] = {
    "dla_34": dla_34,
    "dla_46c": dla_46c,
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_lite1": efficientnet_lite1,
    "efficientnet_lite2": efficientnet_lite2,
    "mobilenet_v2_fpn": mobilenet_v2_fpn,
    "hourglass_104": hourglass_104,
}
HEATMAP_BIAS = -2.19  # sigma(-2.19) = 0.1: few peaks at the start (CornerNet, CenterNet)


class TrainingOutputs(NamedTuple):
    heatmap: Tensor  # [N, C, h, w] logits
    saliency: Tensor  # [N, Cs, h, w] logits
    offsets: Tensor  # [n, 2] x, y in cells
    sizes: Tensor  # [n, 2] w, h in cells
    shapes: Tensor  # [n, S, S] logits
    early: tuple[TrainingOutputs, ...] = ()  # of an hourglass: the same from each stack before the last


class HeadSet(NamedTuple):
    """The five heads on one feature map, under the names that their parameters have."""

    heatmap: Head
    offset: Head
    size: Head
    shape: Head
    saliency: Head


class Peaks(NamedTuple):
    """The outputs of graph level `peaks`, in the order of centermask_runtime.networks.network.PEAKS_OUTPUTS."""

    scores: Tensor  # [N, K]
    labels: Tensor  # int32 [N, K]
    boxes: Tensor  # [N, K, 4] xyxy, input pixels
    shapes: Tensor  # [N, K, S, S] logits
    saliency: Tensor  # [N, Cs, h, w] logits


class Heads(NamedTuple):
    """The outputs of graph level `heads`, in the order of centermask_runtime.networks.network.HEADS_OUTPUTS."""

    heatmap: Tensor  # [N, C, h, w] logits
    offsets: Tensor  # [N, 2, h, w] x, y in cells
    sizes: Tensor  # [N, 2, h, w] w, h in cells
    shapes: Tensor  # [N, S S, h, w] logits
    saliency: Tensor  # [N, Cs, h, w] logits


class CenterMaskNet(nn.Module):
    """The network, on uint8 images [N, H, W, 3] BGR. Train it by calling it, run it by `peaks` or `heads`.

    Its five heads stand on the features of the last stack, which inference uses. An hourglass has a stack before that,
    whose heads are in `early` and used in training only.
    """

    heatmap: Head
    offset: Head
    size: Head
    shape: Head
    saliency: Head
    mean: Tensor
    std: Tensor

    def __init__(self, model: ModelConfig, input: InputConfig, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.max_detections = model.max_detections
        self.shape_size = model.shape_size
        self.base = BACKBONES[model.backbone]()
        self.up: UpPath | None = None
        stacks = 1
        if isinstance(self.base, Hourglass):
            channels, stacks = self.base.feature_channels, self.base.stacks
        else:
            appended = self.base.pyramid_channels if isinstance(self.base, MobileNetV2FPN) else 0
            conv = "deformable" if model.deformable else model.up_conv
            self.up = UpPath(self.base.channels, conv, model.up_channels, appended)
            channels = self.up.feature_channels
        for name, head in make_heads(model, channels, num_classes)._asdict().items():
            self.add_module(name, head)
        early = (make_heads(model, channels, num_classes) for _ in range(stacks - 1))
        self.early = nn.ModuleList(nn.ModuleDict(heads._asdict()) for heads in early)
        self.register_buffer("mean", torch.tensor(input.mean_bgr).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(input.std_bgr).view(1, 3, 1, 1) * 255, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """Computes the features [N, C, H/4, W/4] of images uint8 [N, H, W, 3] BGR."""
        return self._stacks(images)[-1]

    def _stacks(self, images: Tensor) -> list[Tensor]:
        """Computes the features of each stack; only an hourglass has more than one."""
        # cast before permute: TensorRT's parser refuses to permute uint8
        pixels = images.to(self.mean.dtype).permute(0, 3, 1, 2)
        maps: list[Tensor] = self.base((pixels - self.mean) / self.std)
        return maps if self.up is None else [self.up(maps)]

    def forward(self, images: Tensor, image_index: Tensor, cells: Tensor) -> TrainingOutputs:
        """Computes heat map and saliency everywhere; offset, size and shape at n given cells.

        images uint8 [N, H, W, 3]; image_index int64 [n]; cells int64 [n, 2] y, x.
        """
        *before, features = self._stacks(images)
        early = []
        for heads, their_features in zip(self.early, before, strict=True):
            assert isinstance(heads, nn.ModuleDict)
            head_set = HeadSet(*cast("Iterable[Head]", heads.values()))
            early.append(outputs_at_cells(head_set, their_features, image_index, cells))
        return self.at_cells(features, image_index, cells)._replace(early=tuple(early))

    def at_cells(self, features: Tensor, image_index: Tensor, cells: Tensor) -> TrainingOutputs:
        """Computes from features what forward gives, without the early stacks."""
        heads = HeadSet(self.heatmap, self.offset, self.size, self.shape, self.saliency)
        return outputs_at_cells(heads, features, image_index, cells)

    def peaks(self, images: Tensor) -> Peaks:
        """Finds the K best peaks of each image and evaluates the other heads there only: graph level `peaks`."""
        features = self.features(images)
        scores, labels, cells = self.top_peaks(self.heatmap(features))
        count = torch.arange(features.shape[0], device=features.device)
        image_index = count[:, None].expand_as(cells).reshape(-1)
        rows = neighbourhoods(features, image_index, cells.reshape(-1))
        exact = rows.to(next(self.offset.parameters()).dtype)  # an export in half precision keeps these two in fp32
        return self._decode(
            scores, labels, cells, self.offset.at(exact), self.size.at(exact), self.shape.at(rows),
            self.saliency(features),
        )  # fmt: skip

    def heads(self, images: Tensor) -> Heads:
        """Computes every head as a dense fp32 map, as the paper has it, and no peaks: graph level `heads`."""
        features = self.features(images)
        heads = (self.heatmap, self.offset, self.size, self.shape, self.saliency)
        return Heads(*(head(features).float() for head in heads))

    def peaks_dense(self, images: Tensor) -> Peaks:
        """Computes the same from dense heads, as the paper has it: the slow truth that `peaks` is tested against."""
        features = self.features(images)
        scores, labels, cells = self.top_peaks(self.heatmap(features))

        def at_peaks(dense: Tensor) -> Tensor:
            flat = dense.flatten(2).transpose(1, 2)  # [N, h w, outputs]
            picked = flat.gather(1, cells[..., None].expand(-1, -1, flat.shape[2]))
            return picked.flatten(0, 1)

        return self._decode(
            scores, labels, cells, at_peaks(self.offset(features)), at_peaks(self.size(features)),
            at_peaks(self.shape(features)), self.saliency(features),
        )  # fmt: skip

    def top_peaks(self, heatmap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Finds in logits [N, C, h, w] scores, labels and flat cells, each [N, K], as reference/peaks.py does."""
        logits = heatmap.float()  # half-precision sigmoids tie
        scores = torch.where(logits.isnan(), 0, logits.sigmoid())  # max_pool2d would spread a NaN over its neighbours
        peaks = torch.where(F.max_pool2d(scores, 3, 1, 1) == scores, scores, 0)
        cells_a_class = heatmap.shape[2] * heatmap.shape[3]
        flat = peaks.flatten(1)
        # no min() on export: the graph's K is what the spec says, and a heat map has more cells than that
        best, index = flat.topk(self.max_detections, dim=1)
        labels = index // cells_a_class
        return best, labels, index - labels * cells_a_class

    def _decode(
        self,
        scores: Tensor,
        labels: Tensor,
        cells: Tensor,
        offsets: Tensor,
        sizes: Tensor,
        shapes: Tensor,
        saliency: Tensor,
    ) -> Peaks:
        count, k = scores.shape
        width = saliency.shape[3]
        y = cells // width
        corner = torch.stack((cells - y * width, y), -1).float()
        centre = (corner + offsets.float().reshape(count, k, 2)) * STRIDE
        half = sizes.float().reshape(count, k, 2).clamp(min=0) * (STRIDE / 2)
        return Peaks(
            scores, labels.int(), torch.cat((centre - half, centre + half), -1),
            shapes.float().reshape(count, k, self.shape_size, self.shape_size), saliency.float(),
        )  # fmt: skip


def build_model(config: Config, num_classes: int) -> CenterMaskNet:
    """Makes the network of a config, with random weights as torch's generator gives them."""
    return CenterMaskNet(config.model, config.input, num_classes)


def make_heads(model: ModelConfig, channels: int, num_classes: int) -> HeadSet:
    """Makes five heads with random weights for features of `channels` channels."""
    width = model.head_channels
    return HeadSet(
        heatmap=Head(channels, width, num_classes, HEATMAP_BIAS),
        offset=Head(channels, width, 2),
        size=Head(channels, width, 2),
        shape=Head(channels, model.shape_channels or width, model.shape_size**2),
        saliency=Head(channels, width, num_classes if model.saliency == "class_specific" else 1),
    )


def outputs_at_cells(heads: HeadSet, features: Tensor, image_index: Tensor, cells: Tensor) -> TrainingOutputs:
    """Runs heat map and saliency on all of the features [N, C, h, w], the others at n cells.

    image_index int64 [n]; cells int64 [n, 2] y, x.
    """
    rows = neighbourhoods(features, image_index, cells[:, 0] * features.shape[3] + cells[:, 1])
    with torch.autocast(features.device.type, enabled=False):  # few rows, and half precision rounds sizes
        rows = rows.to(heads.shape.dtype)
        flat = heads.shape.at(rows)  # [n, S S]
        offsets, sizes = heads.offset.at(rows), heads.size.at(rows)
    side = math.isqrt(flat.shape[1])
    return TrainingOutputs(
        heads.heatmap(features), heads.saliency(features), offsets, sizes, flat.reshape(-1, side, side)
    )

# SPDX-License-Identifier: Apache-2.0
"""CenterMask (Wang et al., CVPR 2020): backbone, up path, five heads; what training, evaluation and export share."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from centermask.config import STRIDE, InputConfig, ModelConfig
from centermask.model.dla import DLA, dla_34, dla_46c
from centermask.model.heads import Head, neighbourhoods
from centermask.model.hourglass import Hourglass, hourglass_104
from centermask.model.upsampling import UpPath

BACKBONES: dict[str, Callable[[], DLA | Hourglass]] = {
    "dla_34": dla_34,
    "dla_46c": dla_46c,
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


class StackHeads(nn.Module):
    """The five heads on one feature map."""

    def add_heads(self, model: ModelConfig, channels: int, num_classes: int) -> Self:
        width = model.head_channels
        self.shape_size = model.shape_size
        self.heatmap = Head(channels, width, num_classes, HEATMAP_BIAS)
        self.offset = Head(channels, width, 2)
        self.size = Head(channels, width, 2)
        self.shape = Head(channels, width, model.shape_size**2)
        self.saliency = Head(channels, width, num_classes if model.saliency == "class_specific" else 1)
        return self

    def at_cells(self, features: Tensor, image_index: Tensor, cells: Tensor) -> TrainingOutputs:
        rows = neighbourhoods(features, image_index, cells[:, 0] * features.shape[3] + cells[:, 1])
        with torch.autocast(features.device.type, enabled=False):  # few rows, and half precision rounds sizes
            rows = rows.to(self.shape.dtype)
            shapes = self.shape.at(rows).reshape(-1, self.shape_size, self.shape_size)
            offsets, sizes = self.offset.at(rows), self.size.at(rows)
        return TrainingOutputs(self.heatmap(features), self.saliency(features), offsets, sizes, shapes)


class CenterMaskNet(StackHeads):
    """Its own heads are those of the last stack, which inference uses; an hourglass trains `early` ones too."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: ModelConfig, input: InputConfig, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.max_detections = model.max_detections
        self.base = BACKBONES[model.backbone]()
        self.up: UpPath | None = None
        stacks = 1
        if isinstance(self.base, Hourglass):
            channels, stacks = self.base.feature_channels, self.base.stacks
        else:
            self.up = UpPath(self.base.channels, model.deformable)
            channels = self.up.feature_channels
        self.add_heads(model, channels, num_classes)
        self.early = nn.ModuleList(StackHeads().add_heads(model, channels, num_classes) for _ in range(stacks - 1))
        self.register_buffer("mean", torch.tensor(input.mean_bgr).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(input.std_bgr).view(1, 3, 1, 1) * 255, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """images uint8 [N, H, W, 3] BGR -> features [N, C, H/4, W/4]."""
        return self._stacks(images)[-1]

    def _stacks(self, images: Tensor) -> list[Tensor]:
        """The features of each stack; only an hourglass has more than one."""
        # cast before permute: TensorRT's parser refuses to permute uint8
        pixels = images.to(self.mean.dtype).permute(0, 3, 1, 2)
        maps: list[Tensor] = self.base((pixels - self.mean) / self.std)
        return maps if self.up is None else [self.up(maps)]

    def forward(self, images: Tensor, image_index: Tensor, cells: Tensor) -> TrainingOutputs:
        """Dense heat map and saliency; offset, size and shape at n given cells.

        images uint8 [N, H, W, 3]; image_index int64 [n]; cells int64 [n, 2] y, x.
        """
        *before, features = self._stacks(images)
        early = []
        for heads, their_features in zip(self.early, before, strict=True):
            assert isinstance(heads, StackHeads)
            early.append(heads.at_cells(their_features, image_index, cells))
        return self.at_cells(features, image_index, cells)._replace(early=tuple(early))

    def peaks(self, images: Tensor) -> Peaks:
        """Graph level `peaks`: the K best peaks of each image, their heads evaluated at the peaks only."""
        features = self.features(images)
        scores, labels, cells = self._top_peaks(self.heatmap(features))
        count = torch.arange(features.shape[0], device=features.device)
        image_index = count[:, None].expand_as(cells).reshape(-1)
        rows = neighbourhoods(features, image_index, cells.reshape(-1))
        exact = rows.to(next(self.offset.parameters()).dtype)  # an export in half precision keeps these two in fp32
        return self._decode(
            scores, labels, cells, self.offset.at(exact), self.size.at(exact), self.shape.at(rows),
            self.saliency(features),
        )  # fmt: skip

    def heads(self, images: Tensor) -> Heads:
        """Graph level `heads`: every head as a dense fp32 map, as the paper has it; peaks are somebody else's work."""
        features = self.features(images)
        heads = (self.heatmap, self.offset, self.size, self.shape, self.saliency)
        return Heads(*(head(features).float() for head in heads))

    def peaks_dense(self, images: Tensor) -> Peaks:
        """The same outputs from dense heads, as the paper has it: the slow truth that `peaks` is tested against."""
        features = self.features(images)
        scores, labels, cells = self._top_peaks(self.heatmap(features))

        def at_peaks(dense: Tensor) -> Tensor:
            flat = dense.flatten(2).transpose(1, 2)  # [N, h w, outputs]
            picked = flat.gather(1, cells[..., None].expand(-1, -1, flat.shape[2]))
            return picked.flatten(0, 1)

        return self._decode(
            scores, labels, cells, at_peaks(self.offset(features)), at_peaks(self.size(features)),
            at_peaks(self.shape(features)), self.saliency(features),
        )  # fmt: skip

    def _top_peaks(self, heatmap: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, C, h, w] -> scores, labels, flat cells, each [N, K]; as reference/peaks.py."""
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

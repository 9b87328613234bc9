# SPDX-License-Identifier: Apache-2.0
"""CenterMask (Wang et al., CVPR 2020): backbone, up path, five heads; what training, evaluation and export share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from centermask.config import STRIDE, InputConfig, ModelConfig
from centermask.model.dla import dla_34, dla_46c
from centermask.model.heads import Head, neighbourhoods
from centermask.model.upsampling import UpPath

BACKBONES = {"dla_34": dla_34, "dla_46c": dla_46c}
HEATMAP_BIAS = -2.19  # sigma(-2.19) = 0.1: few peaks at the start (CornerNet, CenterNet)


class TrainingOutputs(NamedTuple):
    heatmap: Tensor  # [N, C, h, w] logits
    saliency: Tensor  # [N, Cs, h, w] logits
    offsets: Tensor  # [n, 2] x, y in cells
    sizes: Tensor  # [n, 2] w, h in cells
    shapes: Tensor  # [n, S, S] logits


class Peaks(NamedTuple):
    """The outputs of graph level `peaks`, in the order of centermask_runtime.networks.network.PEAKS_OUTPUTS."""

    scores: Tensor  # [N, K]
    labels: Tensor  # int32 [N, K]
    boxes: Tensor  # [N, K, 4] xyxy, input pixels
    shapes: Tensor  # [N, K, S, S] logits
    saliency: Tensor  # [N, Cs, h, w] logits


class CenterMask(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, model: ModelConfig, input: InputConfig, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.shape_size = model.shape_size
        self.max_detections = model.max_detections
        self.base = BACKBONES[model.backbone]()
        self.up = UpPath(self.base.channels)
        channels, width = self.base.channels[2], model.head_channels
        self.heatmap = Head(channels, width, num_classes, HEATMAP_BIAS)
        self.offset = Head(channels, width, 2)
        self.size = Head(channels, width, 2)
        self.shape = Head(channels, width, model.shape_size**2)
        self.saliency = Head(channels, width, num_classes if model.saliency == "class_specific" else 1)
        self.register_buffer("mean", torch.tensor(input.mean_bgr).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(input.std_bgr).view(1, 3, 1, 1) * 255, persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """images uint8 [N, H, W, 3] BGR -> features [N, C, H/4, W/4]."""
        # cast before permute: TensorRT's parser refuses to permute uint8
        pixels = images.to(self.mean.dtype).permute(0, 3, 1, 2)
        features: Tensor = self.up(self.base((pixels - self.mean) / self.std))
        return features

    def forward(self, images: Tensor, image_index: Tensor, cells: Tensor) -> TrainingOutputs:
        """Dense heat map and saliency; offset, size and shape at n given cells.

        images uint8 [N, H, W, 3]; image_index int64 [n]; cells int64 [n, 2] y, x.
        """
        features = self.features(images)
        rows = neighbourhoods(features, image_index, cells[:, 0] * features.shape[3] + cells[:, 1])
        with torch.autocast(images.device.type, enabled=False):  # few rows, and half precision rounds sizes
            rows = rows.to(self.mean.dtype)
            shapes = self.shape.at(rows).reshape(-1, self.shape_size, self.shape_size)
            offsets, sizes = self.offset.at(rows), self.size.at(rows)
        return TrainingOutputs(self.heatmap(features), self.saliency(features), offsets, sizes, shapes)

    def peaks(self, images: Tensor) -> Peaks:
        """Graph level `peaks`: the K best peaks of each image, their heads evaluated at the peaks only."""
        features = self.features(images)
        scores, labels, cells = self._top_peaks(self.heatmap(features))
        count = torch.arange(features.shape[0], device=features.device)
        image_index = count[:, None].expand_as(cells).reshape(-1)
        rows = neighbourhoods(features, image_index, cells.reshape(-1))
        return self._decode(
            scores, labels, cells, self.offset.at(rows), self.size.at(rows), self.shape.at(rows),
            self.saliency(features),
        )  # fmt: skip

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

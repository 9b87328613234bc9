# SPDX-License-Identifier: Apache-2.0
"""The losses of CenterMask (§3.4, §4.1), all in fp32 whatever the network's precision.

Deviation, with its reason: both maps are turned into probabilities first and sampled then, exactly as inference does
(reference/masks.py), so the mask loss is a clamped BCE on probabilities; there is no common logit to work with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from centermask.config import STRIDE, LossConfig
from centermask.data.loader import Batch
from centermask.model.network import TrainingOutputs

EPSILON = 1e-6  # probabilities are kept this far from 0 and 1


class Counts(NamedTuple):
    """What the sums over a batch are divided by."""

    objects: float
    saliency_pixels: float  # of the channels whose class is in the image


class Losses(NamedTuple):
    total: Tensor
    heatmap: Tensor
    offset: Tensor
    size: Tensor
    mask: Tensor
    saliency: Tensor
    distill: Tensor  # 0 without a teacher, see training/distillation.py


LOSS_NAMES = Losses._fields


def counts_of(batches: Sequence[Batch]) -> Counts:
    """Counts several micro-batches together; zeros where there are none."""
    objects, pixels = 0, 0
    for batch in batches:
        height, width = batch.saliency.shape[2:]
        objects += len(batch.labels)
        pixels += int(batch.saliency_present.sum()) * height * width
    return Counts(objects, pixels)


def centermask_losses(
    outputs: TrainingOutputs, batch: Batch, weights: LossConfig, counts: Counts | None = None
) -> Losses:
    """Each part of the loss is averaged over the objects of the batch (the saliency over its pixels) and then weighted.

    counts: those of the whole batch, if `batch` is a part of it; the losses of the parts then sum up to those of the
    whole. For an hourglass, the losses are the mean over its stacks (CenterNet's code: their sum over their number).
    """
    counts = counts or counts_of([batch])
    stacks = [_losses_of_stack(stack, batch, weights, counts) for stack in (*outputs.early, outputs)]
    if len(stacks) == 1:
        return stacks[0]
    return Losses(*(torch.stack(parts).mean(0) for parts in zip(*stacks, strict=True)))


def _losses_of_stack(outputs: TrainingOutputs, batch: Batch, weights: LossConfig, counts: Counts) -> Losses:
    objects, pixels = (max(count, 1) for count in counts)
    with torch.autocast(outputs.heatmap.device.type, enabled=False):
        heatmap = focal_loss(outputs.heatmap.float(), batch.heatmap) / objects
        offset = F.l1_loss(outputs.offsets.float(), batch.offsets, reduction="sum") / objects
        size = F.l1_loss(outputs.sizes.float(), batch.sizes, reduction="sum") / objects
        mask = mask_loss(outputs.shapes.float(), outputs.saliency.float(), batch, weights.mask_grid) / objects
        saliency = saliency_loss(outputs.saliency.float(), batch.saliency, batch.saliency_present) / pixels
    total = (
        weights.heatmap * heatmap
        + weights.offset * offset
        + weights.size * size
        + weights.mask * mask
        + weights.saliency * saliency
    )
    return Losses(total, heatmap, offset, size, mask, saliency, torch.zeros_like(total))


def focal_loss(logits: Tensor, target: Tensor, alpha: float = 2.0, beta: float = 4.0) -> Tensor:
    """The penalty-reduced focal loss, summed over the map (CornerNet eq. 1); target is 1 exactly at the centres."""
    p = logits.sigmoid()
    positive = (1 - p) ** alpha * F.logsigmoid(logits)
    negative = (1 - target) ** beta * p**alpha * F.logsigmoid(-logits)
    return -torch.where(target == 1, positive, negative).sum()


def mask_loss(shapes: Tensor, saliency: Tensor, batch: Batch, grid: int) -> Tensor:
    """The BCE of sigma(shape) * sigma(saliency) against the mask (paper eq. 2), averaged over M x M points, summed over
    the objects.
    """
    shape_at = sample_shapes(shapes.sigmoid(), grid)
    channel = batch.labels if saliency.shape[1] > 1 else torch.zeros_like(batch.labels)
    saliency_at = sample_saliency(saliency.sigmoid(), batch.image_index, channel, batch.boxes, grid)
    probability = (shape_at * saliency_at).clamp(EPSILON, 1 - EPSILON)
    # not F.binary_cross_entropy: a NaN ends the process (CUDA) or raises (CPU) there; the trainer has a better sentence
    bce = -(batch.masks * probability.log() + (1 - batch.masks) * torch.log1p(-probability))
    return bce.mean((1, 2)).sum()


def saliency_loss(logits: Tensor, target: Tensor, present: Tensor) -> Tensor:
    """The direct BCE on the saliency, summed over the pixels of the channels whose class is in the image.

    The channel of an absent class is read by false detections only; counting all 80 would drown the few that matter.
    """
    channels = present.float()[:, :, None, None]
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * channels).sum()


def sample_shapes(shapes: Tensor, grid: int) -> Tensor:
    """Samples local shapes [n, S, S] at the M x M pixel-centre grid of their boxes -> [n, M, M]; edges repeat."""
    side = shapes.shape[-1]
    at = (torch.arange(grid, device=shapes.device) + 0.5) * (side / grid) - 0.5
    interpolation = _interpolation(at, side).to(shapes.dtype)  # [M, S]
    return interpolation @ shapes @ interpolation.T


def sample_saliency(saliency: Tensor, image_index: Tensor, channel: Tensor, boxes: Tensor, grid: int) -> Tensor:
    """Samples saliency [N, Cs, h, w], each object's channel, at the M x M grid of its box [n, 4] (input pixels)."""
    _, channels, height, width = saliency.shape
    step = (torch.arange(grid, device=boxes.device) + 0.5) / grid
    x = (boxes[:, 0:1] + step * (boxes[:, 2:3] - boxes[:, 0:1])) / STRIDE - 0.5  # [n, M]
    y = (boxes[:, 1:2] + step * (boxes[:, 3:4] - boxes[:, 1:2])) / STRIDE - 0.5
    x0, x1, fx = _taps(x, width)
    y0, y1, fy = _taps(y, height)
    plane = ((image_index * channels + channel) * height)[:, None]
    flat = saliency.reshape(-1)

    def row(y_tap: Tensor) -> Tensor:  # [n, M, M], interpolated along x
        start = ((plane + y_tap) * width)[:, :, None]
        left, right = (_at(flat, start + tap[:, None, :]) for tap in (x0, x1))
        return left + (right - left) * fx[:, None, :]

    upper, lower = row(y0), row(y1)
    return upper + (lower - upper) * fy[:, :, None]


def _at(flat: Tensor, index: Tensor) -> Tensor:
    """Returns flat[index], with gradients summed in a fixed order, so that a seed gives the same weights again."""
    return flat.index_select(0, index.reshape(-1)).view(index.shape)


def _taps(at: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    at = at.clamp(0, length - 1)
    low = at.floor()
    return low.long(), (low.long() + 1).clamp(max=length - 1), at - low


def _interpolation(at: Tensor, length: int) -> Tensor:
    """Returns bilinear weights [len(at), length] with edges repeated."""
    low, high, fraction = _taps(at, length)
    weights = torch.zeros(len(at), length, device=at.device)
    rows = torch.arange(len(at), device=at.device)
    weights[rows, low] += 1 - fraction
    weights[rows, high] += fraction
    return weights

# SPDX-License-Identifier: Apache-2.0
"""The losses against slow loops and numbers worked out by hand, and the sampling against what inference samples."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from centermask.config import LossConfig
from centermask.data.loader import Batch
from centermask.model.network import TrainingOutputs
from centermask.training.losses import (
    centermask_losses,
    counts_of,
    focal_loss,
    mask_loss,
    saliency_loss,
    sample_saliency,
    sample_shapes,
)
from centermask_runtime.geometry import Letterbox
from centermask_runtime.reference.masks import box_masks
from centermask_runtime.reference.sigmoid import sigmoid

S = 8
M = 12


def sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def logits_of(probability: np.ndarray | torch.Tensor) -> torch.Tensor:
    p = torch.as_tensor(probability).double()
    return torch.log(p / (1 - p)).float()


def bilinear(grid: np.ndarray, y: float, x: float) -> float:
    """One sample of a map [h, w] whose cell centres are at half-integers; edges repeat. Plain arithmetic."""
    y, x = min(max(y - 0.5, 0), grid.shape[0] - 1), min(max(x - 0.5, 0), grid.shape[1] - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, grid.shape[0] - 1), min(x0 + 1, grid.shape[1] - 1)
    g, f = x - x0, y - y0
    upper = grid[y0, x0] * (1 - g) + grid[y0, x1] * g
    lower = grid[y1, x0] * (1 - g) + grid[y1, x1] * g
    return float(upper * (1 - f) + lower * f)


@pytest.fixture
def batch() -> Batch:
    """Two images of 64 x 96, three classes; two objects in the first, one in the second."""
    rng = np.random.default_rng(3)
    boxes = torch.tensor([[8.0, 4, 40, 36], [30.5, 20.25, 61, 63], [0, 0, 96, 64]])
    sizes = (boxes[:, 2:] - boxes[:, :2]) / 4
    centres = (boxes[:, :2] + boxes[:, 2:]) / 8
    cells = centres.floor()
    heatmap = torch.zeros(2, 3, 16, 24)
    image_index, labels = torch.tensor([0, 0, 1]), torch.tensor([2, 0, 1])
    for n, (x, y) in enumerate(cells.long().tolist()):
        heatmap[image_index[n], labels[n], y, x] = 1
    present = torch.tensor([[True, False, True], [False, True, False]])
    saliency = (
        torch.from_numpy(rng.uniform(0, 1, (2, 3, 16, 24)).astype(np.float32)).round() * present[:, :, None, None]
    )
    return Batch(
        images=torch.zeros(2, 64, 96, 3, dtype=torch.uint8),
        heatmap=heatmap,
        saliency=saliency,
        saliency_present=present,
        image_index=image_index,
        labels=labels,
        cells=cells.long().flip(1),
        offsets=centres - cells,
        sizes=sizes,
        boxes=boxes,
        masks=torch.from_numpy(rng.integers(0, 2, (3, M, M)).astype(np.float32)),
    )


def some_outputs(batch: Batch, channels: int = 3, spread: float = 2.0) -> TrainingOutputs:
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * spread

    return TrainingOutputs(draw(2, 3, 16, 24), draw(2, channels, 16, 24), draw(3, 2), draw(3, 2), draw(3, S, S))


# ---- heat map -------------------------------------------------------------------------------------------------------


def test_focal_loss_of_four_cells_by_hand():
    logits = torch.tensor([0.0, 2.0, -1.0, 0.0])
    target = torch.tensor([1.0, 1.0, 0.0, 0.5])
    by_hand = (
        0.5**2 * math.log(2)  # a centre at p = 0.5
        + (1 - sigma(2)) ** 2 * -math.log(sigma(2))  # a centre at p = 0.88
        + sigma(-1) ** 2 * -math.log(1 - sigma(-1))  # background at p = 0.27
        + 0.5**4 * 0.5**2 * math.log(2)  # near a centre: (1 - 0.5)^4 of it
    )
    assert float(focal_loss(logits, target)) == pytest.approx(by_hand, rel=1e-6)


def test_focal_loss_is_the_slow_loop():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(0, 3, (2, 3, 5, 7)), rng.uniform(0, 0.99, (2, 3, 5, 7))
    target[0, 1, 2, 3] = target[1, 2, 4, 4] = 1
    total = 0.0
    for x, t in zip(logits.ravel(), target.ravel(), strict=True):
        p = sigma(x)
        total -= (1 - p) ** 2 * math.log(p) if t == 1 else (1 - t) ** 4 * p**2 * math.log(1 - p)
    assert float(focal_loss(torch.from_numpy(logits), torch.from_numpy(target))) == pytest.approx(total, rel=1e-9)


def test_almost_a_centre_is_background():
    """Only exactly 1 is a centre: the Gaussian's other values never reach it."""
    near = torch.tensor([math.nextafter(1.0, 0.0)], dtype=torch.float64)
    assert float(focal_loss(torch.tensor([-3.0], dtype=torch.float64), near)) < 1e-12


# ---- sampling -------------------------------------------------------------------------------------------------------


@given(side=st.integers(1, 9), grid=st.integers(1, 14), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_shapes_are_sampled_at_pixel_centres(side, grid, seed):
    maps = np.random.default_rng(seed).uniform(0, 1, (2, side, side)).astype(np.float32)
    got = sample_shapes(torch.from_numpy(maps), grid)
    slow = [
        [[bilinear(one, (i + 0.5) / grid * side, (j + 0.5) / grid * side) for j in range(grid)] for i in range(grid)]
        for one in maps
    ]
    np.testing.assert_allclose(got, slow, atol=1e-5)


@given(seed=st.integers(0, 99))
@settings(max_examples=25)
def test_saliency_is_sampled_in_image_coordinates(seed):
    """Of the object's own image and channel; boxes of any place, also beyond the input."""
    rng = np.random.default_rng(seed)
    maps = rng.uniform(0, 1, (2, 3, 6, 9)).astype(np.float32)
    corner = rng.uniform(-8, 30, (4, 2))
    boxes = np.concatenate((corner, corner + rng.uniform(1, 30, (4, 2))), 1).astype(np.float32)
    image_index, channel = rng.integers(0, 2, 4), rng.integers(0, 3, 4)
    got = sample_saliency(*(torch.from_numpy(a) for a in (maps, image_index, channel, boxes)), 5)
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        for i in range(5):
            for j in range(5):
                y, x = y0 + (i + 0.5) / 5 * (y1 - y0), x0 + (j + 0.5) / 5 * (x1 - x0)
                slow = bilinear(maps[image_index[n], channel[n]], y / 4, x / 4)
                assert float(got[n, i, j]) == pytest.approx(slow, abs=1e-4)


def test_training_samples_what_inference_samples():
    """A box of M x M whole pixels in an input that is the frame: grid points are pixel centres.

    box_masks compares with a threshold, so the value of a pixel is found by asking just below and just above it.
    """
    rng = np.random.default_rng(11)
    shapes = rng.normal(1, 3, (3, S, S)).astype(np.float32)
    saliency = rng.normal(1, 3, (3, 16, 24)).astype(np.float32)
    boxes = np.array([[3, 5, 3 + M, 5 + M], [0, 0, M, M], [96 - M, 64 - M, 96, 64]], np.float32)
    labels = np.array([2, 0, 1])
    trained = sample_shapes(torch.from_numpy(sigmoid(shapes)), M) * sample_saliency(
        torch.from_numpy(sigmoid(saliency))[None], torch.zeros(3, dtype=torch.int64), torch.from_numpy(labels),
        torch.from_numpy(boxes), M,
    )  # fmt: skip
    letterbox = Letterbox.fit((64, 96), (64, 96))

    def inferred(threshold: float) -> np.ndarray:
        masks = box_masks(boxes, labels, shapes, saliency, letterbox, 4, threshold)
        return np.stack([masks.crop(n) for n in range(3)])

    for threshold in np.linspace(0.02, 0.98, 25):
        disagree = inferred(threshold) != (trained.numpy() >= threshold)
        assert np.abs(trained.numpy()[disagree] - threshold).max(initial=0) < 2e-6
    assert 0.2 < inferred(0.3).mean() < 0.8


def test_sampling_gradients_do_not_depend_on_threads():
    """The same seed must give the same weights: sums of gradients are taken in a fixed order."""
    generator = torch.Generator().manual_seed(0)
    saliency = torch.rand(1, 1, 8, 8, generator=generator, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 32, 32]]).repeat(80, 1)  # all on the same cells
    index = torch.zeros(80, dtype=torch.int64)
    weight = torch.randn(80, 28, 28, generator=generator)

    def gradient() -> torch.Tensor:
        saliency.grad = None
        (sample_saliency(saliency, index, index, boxes, 28) * weight).sum().backward()
        assert saliency.grad is not None
        return saliency.grad.clone()

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        first = gradient()
        assert all(torch.equal(first, gradient()) for _ in range(10))
    finally:
        torch.set_num_threads(before)


# ---- masks and saliency ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_mask_loss_is_the_slow_loop(batch, channels):
    outputs = some_outputs(batch, channels)
    total = 0.0
    shapes, saliency = outputs.shapes.sigmoid().numpy(), outputs.saliency.sigmoid().numpy()
    for n, (x0, y0, x1, y1) in enumerate(batch.boxes.tolist()):
        plane = saliency[batch.image_index[n], batch.labels[n] if channels > 1 else 0]
        for i in range(M):
            for j in range(M):
                a, b = (i + 0.5) / M, (j + 0.5) / M
                p = bilinear(shapes[n], a * S, b * S)
                p *= bilinear(plane, (y0 + a * (y1 - y0)) / 4, (x0 + b * (x1 - x0)) / 4)
                p = min(max(p, 1e-6), 1 - 1e-6)
                t = float(batch.masks[n, i, j])
                total -= (t * math.log(p) + (1 - t) * math.log(1 - p)) / (M * M)
    assert float(mask_loss(outputs.shapes, outputs.saliency, batch, M)) == pytest.approx(total, rel=1e-5)


def test_only_the_channel_of_the_class_matters_to_a_mask(batch):
    outputs = some_outputs(batch)
    saliency = outputs.saliency.clone().requires_grad_()
    mask_loss(outputs.shapes, saliency, batch, M).backward()
    assert saliency.grad is not None
    touched = saliency.grad.abs().sum((2, 3)) > 0  # [image, channel]
    assert touched.tolist() == [[True, False, True], [False, True, False]]


def test_saliency_counts_the_classes_that_are_there(batch):
    logits = some_outputs(batch).saliency
    loss = float(saliency_loss(logits, batch.saliency, batch.saliency_present))
    planes = [(0, 0), (0, 2), (1, 1)]
    bce = [
        -math.log(sigma(x) if t else 1 - sigma(x))
        for n, c in planes
        for x, t in zip(logits[n, c].flatten().tolist(), batch.saliency[n, c].flatten().tolist(), strict=True)
    ]
    assert loss == pytest.approx(sum(bce), rel=1e-5) and counts_of([batch]).saliency_pixels == len(bce)
    logits[0, 1], logits[1, 0], logits[1, 2] = 40.0, -40.0, 40.0
    assert float(saliency_loss(logits, batch.saliency, batch.saliency_present)) == pytest.approx(loss)


def test_perfect_outputs_cost_almost_nothing(batch):
    """Masks that fill their boxes: the rest is what sigmoids cannot reach."""
    full = dataclasses.replace(
        batch, masks=torch.ones(3, M, M), saliency=batch.saliency_present[:, :, None, None] * torch.ones(2, 3, 16, 24)
    )
    outputs = TrainingOutputs(
        torch.where(full.heatmap == 1, 20.0, -20.0), torch.where(full.saliency > 0, 20.0, -20.0),
        full.offsets, full.sizes, torch.full((3, S, S), 20.0),
    )  # fmt: skip
    losses = centermask_losses(outputs, full, LossConfig(mask_grid=M))
    assert all(float(part) < 1e-5 for part in losses)


def test_perfect_shapes_of_a_coarse_mask_cost_almost_nothing(batch):
    """With M = S the grid points are the cell centres, so nothing is interpolated."""
    masks = (torch.rand(3, S, S, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    full = dataclasses.replace(batch, masks=masks)
    saliency = torch.full((2, 3, 16, 24), 20.0)
    assert float(mask_loss(torch.where(masks > 0, 20.0, -20.0), saliency, full, S)) < 1e-4
    assert float(mask_loss(torch.where(masks > 0, -20.0, 20.0), saliency, full, S)) > 10


# ---- the sum --------------------------------------------------------------------------------------------------------


def test_the_total_is_the_weighted_sum_and_parts_are_means_over_objects(batch):
    outputs = some_outputs(batch)
    weights = LossConfig(2.0, 3.0, 5.0, 7.0, 11.0, mask_grid=M)
    losses = centermask_losses(outputs, batch, weights)
    assert float(losses.heatmap) == pytest.approx(float(focal_loss(outputs.heatmap, batch.heatmap)) / 3, rel=1e-5)
    assert float(losses.offset) == pytest.approx(float((outputs.offsets - batch.offsets).abs().sum()) / 3, rel=1e-5)
    assert float(losses.size) == pytest.approx(float((outputs.sizes - batch.sizes).abs().sum()) / 3, rel=1e-5)
    assert float(losses.mask) == pytest.approx(
        float(mask_loss(outputs.shapes, outputs.saliency, batch, M)) / 3, rel=1e-5
    )
    by_hand = 2 * losses.heatmap + 3 * losses.offset + 5 * losses.size + 7 * losses.mask + 11 * losses.saliency
    assert float(losses.total) == pytest.approx(float(by_hand), rel=1e-6)


def test_half_precision_outputs_are_summed_in_single_precision(batch):
    """bf16 outputs give the loss of the same numbers in fp32, also inside autocast."""
    rough = TrainingOutputs(*(part.bfloat16() for part in some_outputs(batch)[:5]))
    exact = TrainingOutputs(*(part.float() for part in rough[:5]))
    with torch.autocast("cpu", torch.bfloat16):
        losses = centermask_losses(rough, batch, LossConfig(mask_grid=M))
    truth = centermask_losses(exact, batch, LossConfig(mask_grid=M))
    assert all(part.dtype == torch.float32 for part in losses)
    torch.testing.assert_close(torch.stack(losses), torch.stack(truth), rtol=1e-6, atol=0)


@pytest.mark.parametrize("logit", [50.0, -50.0, 1e4, -1e4])
def test_extreme_logits_give_finite_losses_and_gradients(batch, logit):
    parts = [torch.full_like(part, logit).requires_grad_() for part in some_outputs(batch)[:5]]
    losses = centermask_losses(TrainingOutputs(*parts), batch, LossConfig(mask_grid=M))
    losses.total.backward()
    assert all(part.isfinite() for part in losses)
    assert all(part.grad is not None and part.grad.isfinite().all() for part in parts)


def test_outputs_that_are_not_numbers_give_a_loss_that_is_none(batch):
    """No exception, which on a GPU would end the process: the trainer looks at the loss and says what to do."""
    outputs = TrainingOutputs(*(torch.full_like(part, math.nan) for part in some_outputs(batch)[:5]))
    losses = centermask_losses(outputs, batch, LossConfig(mask_grid=M))
    assert losses.total.isnan() and losses.mask.isnan()


def test_a_batch_without_objects_has_a_loss(batch):
    fields = ("image_index", "labels", "cells", "offsets", "sizes", "boxes", "masks")
    empty = dataclasses.replace(
        batch, heatmap=torch.zeros_like(batch.heatmap), saliency_present=torch.zeros_like(batch.saliency_present),
        **{name: getattr(batch, name)[:0] for name in fields},
    )  # fmt: skip
    outputs = some_outputs(batch)
    outputs = TrainingOutputs(outputs.heatmap, outputs.saliency, *(part[:0] for part in outputs[2:]))
    losses = centermask_losses(outputs, empty, LossConfig(mask_grid=M))
    assert float(losses.heatmap) > 0 and float(losses.offset + losses.size + losses.mask + losses.saliency) == 0

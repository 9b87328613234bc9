# SPDX-License-Identifier: Apache-2.0
"""Targets against slow, obvious versions: every canvas pixel looked up in the source on its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask.config import AugmentConfig
from centermask.data.augment.affine import letterbox_affine
from centermask.data.augment.draw import sample_affine
from centermask.data.dataset import ObjectMask
from centermask.data.targets import MIN_VISIBLE, Targets, gaussian_radius, make_targets
from tests.support.object_masks import rectangle, tight

CANVAS = (64, 96)
CLASSES = 3
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
RANDOM = AugmentConfig(scale=(0.5, 2.5), shift=0.2, flip=0.5, flip_vertical=0.5, rotate_90=True)
seeds = st.integers(0, 2**32 - 1)


def scene(seed: int, frame_hw: tuple[int, int], count: int = 6) -> tuple[list[np.ndarray], list[ObjectMask]]:
    """Full masks and objects: ellipses and rectangles anywhere, overlapping as they like."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: frame_hw[0], : frame_hw[1]] + 0.5
    masks, objects = [], []
    for _ in range(count):
        centre, radii = rng.uniform(0, frame_hw[::-1]), rng.uniform(2, 25, 2)
        u, v = (x - centre[0]) / radii[0], (y - centre[1]) / radii[1]
        mask = u * u + v * v < 1 if rng.random() < 0.5 else np.maximum(np.abs(u), np.abs(v)) < 1
        if mask.any():
            masks.append(mask)
            objects.append(tight(mask, int(rng.integers(CLASSES))))
    return masks, objects


def slow_warp(mask: np.ndarray, affine: np.ndarray, points_xy: np.ndarray) -> np.ndarray:
    """The source pixel that contains each canvas point; False outside of the frame."""
    inverse = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2]
    source = np.floor(points_xy @ inverse[:, :2].T + inverse[:, 2]).astype(int)
    inside = ((source >= 0) & (source < mask.shape[::-1])).all(-1)
    column, row = np.where(inside[..., None], source, 0).transpose(2, 0, 1)
    return inside & mask[row, column]


def pixel_centres(canvas_hw: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: canvas_hw[0], : canvas_hw[1]] + 0.5
    return np.stack([x, y], -1)


def targets_of(objects, affine, canvas_hw=CANVAS, channels=CLASSES, grid=14) -> Targets:
    return make_targets(
        objects, affine, canvas_hw, num_classes=CLASSES, saliency_channels=channels, stride=4, mask_grid=grid
    )


@given(seed=seeds)
def test_the_box_is_the_tight_box_of_the_warped_mask(seed):
    masks, objects = scene(seed, (70, 90), count=1)
    if not objects:
        return
    affine = sample_affine(np.random.default_rng(seed), (70, 90), (100, 120), CANVAS, RANDOM)
    targets = targets_of(objects, affine)
    shown = slow_warp(masks[0], affine, pixel_centres(CANVAS))
    if not len(targets.boxes):
        visible = shown.sum() * abs(np.linalg.det(affine[:, :2])) ** -1 / masks[0].sum()
        assert visible < 3 * MIN_VISIBLE or np.ptp(np.nonzero(shown), axis=1).min() < 4
        return
    x0, y0, x1, y1 = tight(shown).rect
    np.testing.assert_allclose(targets.boxes[0], [x0, y0, x1, y1], atol=1.0 + 1 / 2.5)


@given(seed=seeds, agnostic=st.booleans())
def test_saliency_is_the_covered_part_of_each_cell(seed, agnostic):
    masks, objects = scene(seed, (70, 90))
    affine = sample_affine(np.random.default_rng(seed), (70, 90), (100, 120), CANVAS, RANDOM)
    targets = targets_of(objects, affine, channels=1 if agnostic else CLASSES)
    truth = np.zeros((CLASSES, *CANVAS), np.bool_)
    for mask, one in zip(masks, objects, strict=True):
        truth[one.label] |= slow_warp(mask, affine, pixel_centres(CANVAS))
    if agnostic:
        truth = truth.any(0, keepdims=True)
    covered = truth.reshape(len(truth), 16, 4, 24, 4).mean((2, 4))
    np.testing.assert_array_equal(targets.saliency, covered)
    assert targets.saliency.dtype == np.float32
    expected = [True] if agnostic else [label in {one.label for one in objects} for label in range(CLASSES)]
    assert targets.saliency_present.tolist() == expected


@given(seed=seeds)
def test_grid_masks_sample_the_source_at_the_points_of_the_box(seed):
    masks, objects = scene(seed, (70, 90), count=1)
    if not objects:
        return
    affine = sample_affine(np.random.default_rng(seed), (70, 90), (100, 120), CANVAS, RANDOM)
    grid = 12
    targets = targets_of(objects, affine, grid=grid)
    for box, grid_mask in zip(targets.boxes.astype(np.float64), targets.masks, strict=True):
        scale = np.abs(affine[:, :2]).max()
        fine = (box[2:] - box[:2]) / scale > grid  # more source pixels than grid points, per canvas axis
        low, exact, high = (np.zeros((grid, grid)) for _ in range(3))
        shifts = [
            (dx, dy) for dx in ((-0.25, 0.25) if fine[0] else (0.0,)) for dy in ((-0.25, 0.25) if fine[1] else (0.0,))
        ]
        for shift in shifts:
            y, x = np.mgrid[:grid, :grid] + 0.5
            points = (np.stack([x, y], -1) + shift) / grid * (box[2:] - box[:2]) + box[:2]
            for total, nudge in ((low, -1e-3), (exact, 0), (high, 1e-3)):
                total += slow_warp(masks[0], affine, points + nudge) / len(shifts)
        clear = (low == exact) & (exact == high)  # elsewhere a point lies on the edge of a source pixel
        assert clear.mean() > 0.5
        np.testing.assert_allclose(grid_mask[clear], exact[clear], atol=1e-6)


@given(seed=seeds)
def test_centres_and_sizes_decode_to_the_boxes(seed):
    _, objects = scene(seed, (70, 90), count=12)
    affine = sample_affine(np.random.default_rng(seed), (70, 90), (100, 120), CANVAS, RANDOM)
    targets = targets_of(objects, affine)
    centres = (targets.cells[:, ::-1] + targets.offsets) * 4
    decoded = np.concatenate([centres - targets.sizes * 2, centres + targets.sizes * 2], 1)
    np.testing.assert_allclose(decoded, targets.boxes, atol=1e-3)
    assert ((targets.cells >= 0) & (targets.cells < (16, 24))).all()
    assert ((targets.offsets >= 0) & (targets.offsets <= 1)).all()
    assert (targets.boxes >= 0).all() and (targets.boxes <= (96, 64, 96, 64)).all()
    assert (targets.heatmap[targets.labels, targets.cells[:, 0], targets.cells[:, 1]] == 1).all()
    centres_of_classes = {(label, y, x) for label, (y, x) in zip(targets.labels, targets.cells.tolist(), strict=True)}
    assert np.count_nonzero(targets.heatmap == 1) == len(centres_of_classes)


@given(seed=seeds)
def test_the_heatmap_is_the_highest_of_the_gaussians(seed):
    _, objects = scene(seed, (70, 90))
    targets = targets_of(objects, letterbox_affine((70, 90), CANVAS))
    truth = np.zeros((CLASSES, 16, 24))
    for label, (cy, cx), (w, h) in zip(targets.labels, targets.cells, targets.sizes, strict=True):
        r = gaussian_radius(h, w)
        sigma = (2 * r + 1) / 6
        for y in range(max(cy - r, 0), min(cy + r + 1, 16)):
            for x in range(max(cx - r, 0), min(cx + r + 1, 24)):
                value = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * sigma**2))
                truth[label, y, x] = max(truth[label, y, x], value)
    np.testing.assert_allclose(targets.heatmap, truth, atol=1e-6)


@pytest.mark.parametrize(("height", "width", "radius"), [(5, 5, 1), (20, 20, 5), (10, 40, 4), (40, 10, 4), (1, 1, 0)])
def test_gaussian_radii_are_centernets(height, width, radius):
    """By hand: of the three roots the third is the smallest, (-1.4 (h + w) + sqrt(1.96 (h + w)^2 + 3.36 h w)) / 2."""
    assert gaussian_radius(height, width) == radius


def test_a_box_of_whole_pixels_has_whole_edges():
    targets = targets_of([rectangle(8, 4, 24, 36, label=2)], IDENTITY)
    assert targets.boxes.tolist() == [[8, 4, 24, 36]]
    assert targets.cells.tolist() == [[5, 4]] and targets.offsets.tolist() == [[0, 0]]
    assert targets.sizes.tolist() == [[4, 8]] and targets.labels.tolist() == [2]
    assert (targets.masks == 1).all()
    assert targets.saliency[2, 1:9, 2:6].all() and targets.saliency.sum() == 32


def test_objects_that_share_a_cell_both_stay():
    targets = targets_of([rectangle(10, 10, 30, 30), rectangle(5, 15, 35, 26)], IDENTITY)
    assert targets.cells.tolist() == [[5, 5], [5, 5]] and len(targets.masks) == 2
    assert np.count_nonzero(targets.heatmap == 1) == 1


def test_a_crowd_is_salient_but_no_target():
    targets = targets_of([rectangle(0, 0, 40, 40, label=1, crowd=True), rectangle(50, 10, 70, 30)], IDENTITY)
    assert targets.labels.tolist() == [0] and not targets.heatmap[1].any()
    assert targets.saliency[1, :10, :10].all() and targets.saliency_present.tolist() == [True, True, False]


def test_a_cut_object_gets_the_box_of_what_remains():
    """An L whose long arm leaves the canvas: the visible foot is lower than the clipped box."""
    mask = np.zeros((64, 200), np.bool_)
    mask[50:60, 40:60] = True
    mask[10:60, 90:110] = True
    mask[50:60, 40:110] = True
    targets = targets_of([tight(mask)], np.array([[1.0, 0, 6], [0, 1, 0]]))
    assert targets.boxes.tolist() == [[46, 50, 96, 60]]


@pytest.mark.parametrize(("x0", "kept"), [(86, True), (93, True), (94, False), (200, False), (-14, True), (-18, False)])
def test_an_object_must_show_enough_of_itself(x0, kept):
    one = rectangle(20, 10, 40, 30)
    targets = targets_of([one], np.array([[1.0, 0, x0 - 20], [0, 1, 0]]))
    assert len(targets.labels) == kept
    assert targets.saliency.any() == (x0 < 96)


def test_a_box_under_two_pixels_is_no_target():
    objects = [rectangle(10, 10, 13, 40), rectangle(60, 10, 64, 14)]
    targets = targets_of(objects, np.array([[0.5, 0, 0], [0, 0.5, 0]]))
    assert targets.boxes.tolist() == [[30, 5, 32, 7]]
    assert targets.saliency.any()


@pytest.mark.parametrize("channels", [1, CLASSES])
def test_an_image_without_objects_has_targets_of_length_zero(channels):
    targets = targets_of([], IDENTITY, channels=channels)
    assert not targets.heatmap.any() and not targets.saliency.any()
    assert targets.saliency_present.tolist() == ([True] if channels == 1 else [False] * CLASSES)
    shapes = [getattr(targets, name).shape for name in ("labels", "cells", "offsets", "sizes", "boxes", "masks")]
    assert shapes == [(0,), (0, 2), (0, 2), (0, 2), (0, 4), (0, 14, 14)]


def test_a_map_with_a_slope_is_refused():
    with pytest.raises(AssertionError, match="slope"):
        targets_of([rectangle(0, 0, 9, 9)], np.array([[1.0, 0.1, 0], [0, 1, 0]]))

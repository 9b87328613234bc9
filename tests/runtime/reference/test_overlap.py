# SPDX-License-Identifier: Apache-2.0
"""Overlaps of boxes and of masks are those of pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.reference.overlap import box_iou, mask_iou, pair_mask_iou

FRAME_HW = (20, 20)


def random_masks(rng, count):
    """Rectangles that meet often, some without area, with random pixels."""
    low = rng.integers(0, 12, (count, 2))
    rects = np.concatenate((low, low + rng.integers(0, 9, (count, 2))), axis=1).astype(np.int32)
    return BoxMasks.from_crops(FRAME_HW, rects, [rng.random((y1 - y0, x1 - x0)) < 0.6 for x0, y0, x1, y1 in rects])


@given(st.integers(0, 10_000))
def test_overlaps_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    a, b = random_masks(rng, 4), random_masks(rng, 3)
    xywh = [np.concatenate((m.rects[:, :2], m.rects[:, 2:] - m.rects[:, :2]), axis=1).astype(float) for m in (a, b)]
    found = box_iou(a.rects.astype(np.float32), b.rects.astype(np.float32))
    np.testing.assert_allclose(found, coco_mask.iou(*xywh, [0] * 3), atol=1e-12)
    expected = coco_mask.iou(a.rles(), b.rles(), [0] * 3)
    np.testing.assert_allclose(mask_iou(a, b), expected, atol=1e-12)
    for row in range(4):
        for column in range(3):
            both_empty = not a.crop(row).any() and not b.crop(column).any()
            assert pair_mask_iou(a, row, b, column) == pytest.approx(1 if both_empty else expected[row, column])


def test_boxes_with_fractions_are_continuous():
    a, b = np.array([[0, 0, 1.5, 1]], np.float32), np.array([[1, 0, 2, 1], [5, 5, 6, 6]], np.float32)
    assert box_iou(a, b).tolist() == [[pytest.approx(0.5 / 2), 0]]


def test_no_boxes_and_no_masks_have_no_overlaps():
    none, some = BoxMasks.empty(FRAME_HW), random_masks(np.random.default_rng(0), 2)
    assert mask_iou(none, some).shape == (0, 2) and mask_iou(some, none).shape == (2, 0)
    assert box_iou(np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32)).shape == (0, 3)

# SPDX-License-Identifier: Apache-2.0
"""The result type: crops and canvases agree, selections keep everything together, other forms hold the same."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from centermask_runtime.instances import BoxMasks, Instances

FRAME_HW = (30, 40)


@pytest.fixture
def canvases():
    rng = np.random.default_rng(3)
    full = np.zeros((4, *FRAME_HW), bool)
    full[0, 3:12, 5:22] = rng.random((9, 17)) < 0.6
    full[1, :, 30:40] = rng.random((30, 10)) < 0.6
    full[3, 29, 39] = True
    return full


@pytest.fixture
def masks(canvases):
    rects = np.array([(5, 3, 22, 12), (30, 0, 40, 30), (0, 0, 0, 0), (39, 29, 40, 30)], np.int32)
    return BoxMasks.from_crops(
        FRAME_HW, rects, [m[y0:y1, x0:x1] for m, (x0, y0, x1, y1) in zip(canvases, rects, strict=True)]
    )


@pytest.fixture
def instances(masks):
    return Instances(
        FRAME_HW,
        masks.rects.astype(np.float32) + np.float32(0.25),
        np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        np.array([1, 0, 1, 1], np.int32),
        masks,
        ("cat", "dog"),
        (17, 18),
    )


def test_canvases_are_the_masks(masks, canvases):
    np.testing.assert_array_equal(masks.canvases(), canvases)
    for i in range(4):
        np.testing.assert_array_equal(masks.canvas(i), canvases[i])


def test_areas_count_pixels(masks, canvases):
    assert masks.areas().tolist() == canvases.sum((1, 2)).tolist()


def test_rles_equal_pycocotools(masks, canvases):
    expected = [coco_mask.encode(np.asfortranarray(m, np.uint8))["counts"].decode() for m in canvases]
    assert [r["counts"] for r in masks.rles()] == expected


def test_selection_by_boolean_and_by_order(instances, canvases):
    assert instances.select(np.array([True, False, False, True])).scores.tolist() == pytest.approx([0.9, 0.6])
    found = instances.select(np.array([3, 1]))
    assert found.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(found.masks.canvases(), canvases[[3, 1]])


def test_iteration_gives_one_at_a_time(instances):
    assert [len(one) for one in instances] == [1, 1, 1, 1]
    assert [int(one.labels[0]) for one in instances] == [1, 0, 1, 1]


def test_nothing_selected_is_a_result_too(instances):
    none = instances.select(np.zeros(4, bool))
    assert len(none) == 0 and none.to_coco(1) == [] and none.masks.canvases().shape == (0, *FRAME_HW)
    assert BoxMasks.empty(FRAME_HW).areas().shape == (0,)


def test_coco_results_carry_the_data_sets_ids_and_are_json(instances):
    results = json.load(io.StringIO(json.dumps(instances.to_coco(7))))
    assert [r["category_id"] for r in results] == [18, 17, 18, 18]
    assert results[0]["bbox"] == [5.25, 3.25, 17, 9] and results[0]["image_id"] == 7
    assert coco_mask.area(results[1]["segmentation"]) == instances.masks.areas()[1]


def test_supervision_detections_hold_the_same(instances, canvases):
    pytest.importorskip("supervision")
    found = instances.to_supervision()
    np.testing.assert_array_equal(found.mask, canvases)
    assert found.data["class_name"].tolist() == ["dog", "cat", "dog", "dog"]
    assert len(instances.select(np.zeros(4, bool)).to_supervision()) == 0


def test_supervision_draws_exactly_the_pixels_of_the_masks(instances, canvases):
    supervision = pytest.importorskip("supervision")
    blank = np.zeros((*FRAME_HW, 3), np.uint8)
    drawn = supervision.MaskAnnotator().annotate(blank.copy(), instances.to_supervision())
    np.testing.assert_array_equal((drawn != blank).any(2), canvases.any(0))


def test_lengths_that_disagree_are_a_broken_promise(masks):
    with pytest.raises(AssertionError):
        Instances(
            FRAME_HW, np.zeros((3, 4), np.float32), np.zeros(4, np.float32), np.zeros(4, np.int32), masks, ("a",), (1,)
        )

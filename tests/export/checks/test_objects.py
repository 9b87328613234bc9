# SPDX-License-Identifier: Apache-2.0
"""Objects of two artefacts: differences that were put in are what comes out; order and ties do not count."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask_export.checks.objects import Comparison, Limits, match_objects
from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.errors import UsageError
from centermask_runtime.instances import Instances
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.reference.overlap import box_iou
from tests.support.fixed_networks import WHITE, Fixed, boxes_apart, changed, difference


@pytest.fixture
def apart(small_outputs) -> PeakOutputs:
    return boxes_apart(small_outputs)


def test_an_artefact_differs_from_itself_in_nothing_whatever_the_order(small_spec, apart):
    tied = changed(apart, scores=np.full_like(apart.scores, 0.5))
    result, _ = difference(small_spec, tied, changed(tied, order=[3, 1, 0, 2, 7, 6, 5, 4]))
    assert (result.objects, len(result.pairs), result.margins) == ([8, 8], 8, [])
    assert {name: max(values) for name, values in result.outputs.items()} == dict.fromkeys(
        ("scores", "boxes", "shapes", "saliency"), 0
    )
    assert result.summary()["mask_iou"] == {"mean": 1, "smallest": 1}
    assert result.failures(Limits(score=0, box=0, mask_iou=1, unmatched=0)) == []


def test_a_difference_that_was_put_in_comes_out(small_spec, apart):
    scores, boxes = apart.scores.copy(), apart.boxes.copy()
    scores[0, 2] += 0.03
    boxes[0, 5] += 0.75
    frame = np.full((128, 192, 3), 255, np.uint8)  # twice the input: 0.75 input pixels are 1.5 source pixels
    result, _ = difference(small_spec, apart, changed(apart, scores=scores, boxes=boxes), frame, conf=0)
    assert result.summary()["score"]["largest"] == pytest.approx(0.03, abs=1e-6)
    assert result.summary()["box"]["largest"] == pytest.approx(1.5, abs=1e-5)
    assert max(result.outputs["boxes"]) == pytest.approx(0.75, abs=1e-5)
    assert len(result.pairs) == 8
    assert result.failures(Limits(score=0.04, box=2)) == []
    (words,) = result.failures(Limits(score=0.01, box=2))
    assert words == "scores by 0.03 (allowed 0.01)"
    (words,) = result.failures(Limits(score=0.04, box=1))
    assert words == "boxes by 1.5 pixels (allowed 1)"


def test_an_object_next_to_the_threshold_is_forgiven_and_another_is_not(small_spec, apart):
    scores = np.linspace(0.9, 0.55, 8, dtype=np.float32)[None].repeat(2, 0)
    near, far = scores.copy(), scores.copy()
    near[0, 7] = 0.549  # below 0.55, as rounding may put it
    far[0, 7] = 0.2
    for other, alone in ((near, 0), (far, 1)):
        spec = dataclasses.replace(small_spec, score_threshold=0.55 if other is near else 0.5)
        result, (_, _, found) = difference(spec, changed(apart, scores=scores), changed(apart, scores=other))
        assert len(found.only_a) == 1 and found.only_b == ()
        assert result.unmatched(0.002) == alone
        assert bool(result.failures(Limits(score=0.002))) == bool(alone)
        assert result.failures(Limits(score=0.002, unmatched=1)) == []


def test_another_class_or_place_is_no_partner(small_spec, apart):
    labels, boxes = apart.labels.copy(), apart.boxes.copy()
    labels[0, 0] = (labels[0, 0] + 1) % 3
    boxes[0, 1] += 10
    result, (_, _, found) = difference(small_spec, apart, changed(apart, labels=labels, boxes=boxes), conf=0.0)
    assert (found.only_a, found.only_b) == ((0, 1), (0, 1))
    assert len(result.pairs) == 6


def test_nothing_found_by_either_is_no_success(small_spec, apart):
    nothing = changed(apart, scores=np.zeros_like(apart.scores))
    result, _ = difference(small_spec, nothing, nothing)
    assert result.failures(Limits(mask_iou=0.9)) == ["no object was found by both"]
    assert result.failures(Limits()) == []
    assert json.loads(json.dumps(result.to_dict()))["mask_iou"] == {"mean": None, "smallest": None}


def test_models_of_other_classes_or_sizes_are_told_apart(small_spec, apart):
    other = dataclasses.replace(small_spec, class_names=("dog", "cat", "kite"))
    with pytest.raises(UsageError, match="of the same classes"):
        Comparison.of(Pipeline(Fixed(small_spec, apart)), Pipeline(Fixed(other, apart)))
    coarse = dataclasses.replace(small_spec, shape_size=4)
    halved = changed(apart, shapes=apart.shapes[:, :, ::2, ::2])
    result = Comparison.of(Pipeline(Fixed(small_spec, apart)), Pipeline(Fixed(coarse, halved)))
    result.add(Pipeline(Fixed(small_spec, apart)), Pipeline(Fixed(coarse, halved)), WHITE)
    assert result.skipped == ("shapes",) and set(result.outputs) == {"scores", "boxes", "saliency"}


def random_instances(rng: np.random.Generator, count: int) -> Instances:
    low = rng.integers(0, 12, (count, 2))
    rects = np.concatenate((low, low + rng.integers(0, 9, (count, 2))), axis=1).astype(np.int32)
    crops = [rng.random((y1 - y0, x1 - x0)) < 0.6 for x0, y0, x1, y1 in rects]
    boxes = rects.astype(np.float32)
    scores = -np.sort(-rng.random(count).astype(np.float32))
    masks = BoxMasks.from_crops((20, 20), rects, crops)
    return Instances((20, 20), boxes, scores, np.zeros(count, np.int32), masks, ("thing",), (1,))


@given(st.integers(0, 10_000))
def test_each_object_has_at_most_one_partner_and_is_counted_once(seed):
    rng = np.random.default_rng(seed)
    a, b = random_instances(rng, 5), random_instances(rng, 6)
    found = match_objects(a, b, 0.0, 100)
    assert sorted([pair.row_a for pair in found.pairs] + list(found.only_a)) == list(range(5))
    assert sorted([pair.row_b for pair in found.pairs] + list(found.only_b)) == list(range(6))
    assert all(box_iou(a.boxes, b.boxes)[pair.row_a, pair.row_b] >= 0.5 for pair in found.pairs)

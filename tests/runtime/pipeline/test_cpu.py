# SPDX-License-Identifier: Apache-2.0
"""Frame to instances: which objects stay, where their boxes and masks lie, what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.pipeline.cpu import Pipeline, postprocess
from centermask_runtime.reference.masks import box_masks

FRAME_HW = (128, 192)


class FixedNetwork:
    """A Network whose outputs are given; it keeps what it was asked."""

    description = "fixed"

    def __init__(self, spec, outputs):
        self.spec, self.outputs, self.images, self.closed = spec, outputs, [], False

    def run(self, images):
        self.images.append(images.copy())
        return self.outputs

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()


@pytest.fixture
def letterbox(small_spec):
    return Letterbox.fit(FRAME_HW, small_spec.input_hw)


def outputs_of(spec, scores, boxes, labels=None, logit=9.0):
    """One image whose masks fill their boxes."""
    k = len(scores)
    return PeakOutputs(
        np.array([scores], np.float32),
        np.array([labels or [0] * k], np.int32),
        np.array([boxes], np.float32).reshape(1, k, 4),
        np.full((1, k, spec.shape_size, spec.shape_size), logit, np.float32),
        np.full((1, spec.saliency_channels, *spec.grid_hw), logit, np.float32),
    )


BOX = (10, 10, 20, 20)


def test_objects_below_the_threshold_are_dropped_and_equal_ones_stay(small_spec, letterbox):
    outputs = outputs_of(small_spec, [0.9, 0.25, 0.24], [BOX] * 3)
    found = postprocess(outputs, 0, letterbox, small_spec)
    assert found.scores.tolist() == pytest.approx([0.9, 0.25])


def test_score_0_is_no_object_even_at_threshold_0(small_spec, letterbox):
    outputs = outputs_of(small_spec, [0.9, 0.1, 0, np.nan], [BOX] * 4)
    found = postprocess(outputs, 0, letterbox, small_spec, score_threshold=0)
    assert found.scores.tolist() == pytest.approx([0.9, 0.1])


def test_a_box_outside_the_frame_is_dropped_but_an_empty_mask_stays(small_spec, letterbox):
    boxes = [(-20, 0, -1, 9), (5, 5, 5, 9), (np.nan, 0, 9, 9), BOX]
    outputs = outputs_of(small_spec, [0.9, 0.8, 0.7, 0.6], boxes, logit=-9)
    found = postprocess(outputs, 0, letterbox, small_spec)
    assert found.scores.tolist() == pytest.approx([0.6])
    assert found.masks.areas().tolist() == [0]
    assert found.masks.rects.tolist() == [[20, 20, 40, 40]]


def test_boxes_are_reported_clipped_and_sampled_whole(small_spec, small_outputs, letterbox):
    box = np.array([-16, -8, 48, 40], np.float32)  # a quarter of it lies outside
    outputs = dataclasses.replace(small_outputs, boxes=np.broadcast_to(box, small_outputs.boxes.shape))
    found = postprocess(outputs, 1, letterbox, small_spec, score_threshold=0)
    assert (found.boxes == [0, 0, 96, 80]).all()
    expected = box_masks(
        np.tile(box * 2, (8, 1)), outputs.labels[1], outputs.shapes[1], outputs.saliency[1], letterbox, 4, 0.3
    )
    np.testing.assert_array_equal(found.masks.canvases(), expected.canvases())


def test_best_first_and_at_most_max_detections(small_spec, letterbox):
    outputs = outputs_of(small_spec, [0.5, 0.9, 0.7, 0.9], [BOX] * 4, labels=[0, 1, 2, 0])
    found = postprocess(outputs, 0, letterbox, small_spec, max_detections=3)
    assert found.scores.tolist() == pytest.approx([0.9, 0.9, 0.7]) and found.labels.tolist() == [1, 0, 2]


def test_only_the_classes_asked_for(small_spec, letterbox):
    outputs = outputs_of(small_spec, [0.9, 0.8, 0.7], [BOX] * 3, labels=[0, 1, 2])
    assert postprocess(outputs, 0, letterbox, small_spec, classes=[2, 0]).labels.tolist() == [0, 2]
    assert len(postprocess(outputs, 0, letterbox, small_spec, classes=[])) == 0


def test_a_higher_mask_threshold_gives_a_part_of_the_mask(small_spec, small_outputs, letterbox):
    low, high = (
        postprocess(small_outputs, 0, letterbox, small_spec, mask_threshold=t).masks.canvases() for t in (0.2, 0.6)
    )
    assert (high <= low).all() and high.sum() < low.sum()


def test_results_do_not_change_when_the_network_reuses_its_arrays(small_spec, small_outputs, letterbox):
    found = postprocess(small_outputs, 0, letterbox, small_spec)
    before = found.boxes.copy(), found.scores.copy(), found.labels.copy(), found.masks.canvases()
    for array in vars(small_outputs).values():
        array[:] = 0
    for earlier, now in zip(before, (found.boxes, found.scores, found.labels, found.masks.canvases()), strict=True):
        np.testing.assert_array_equal(earlier, now)


def test_no_detections_are_a_result(small_spec, letterbox):
    for scores in ([], [0.0]):
        found = postprocess(outputs_of(small_spec, scores, [BOX] * len(scores)), 0, letterbox, small_spec)
        assert len(found) == 0 and found.boxes.shape == (0, 4) and found.to_coco(1) == []


def test_the_network_gets_the_letterboxed_frame(small_spec, small_outputs):
    network = FixedNetwork(small_spec, small_outputs)
    frame = np.random.default_rng(0).integers(0, 256, (*small_spec.input_hw, 3), dtype=np.uint8)
    Pipeline(network)(frame)
    np.testing.assert_array_equal(network.images[0], frame[None])


def test_frames_of_changing_size(small_spec, small_outputs):
    pipeline = Pipeline(FixedNetwork(small_spec, small_outputs), score_threshold=0)
    for frame_hw in ((64, 96), (300, 20), (64, 96), (1, 1)):
        found = pipeline(np.zeros((*frame_hw, 3), np.uint8))
        assert found.frame_hw == frame_hw
        assert (found.boxes >= 0).all() and (found.boxes <= np.array(frame_hw[::-1] * 2)).all()


def test_options_given_to_the_pipeline_win_over_the_spec(small_spec, small_outputs):
    frame = np.zeros((64, 96, 3), np.uint8)
    network = FixedNetwork(small_spec, small_outputs)
    every = Pipeline(network, score_threshold=0)(frame)
    assert len(every) == 8
    assert len(Pipeline(network, score_threshold=0, max_detections=2)(frame)) == 2
    assert set(Pipeline(network, score_threshold=0, classes=["dog", 2])(frame).labels) <= {1, 2}
    assert Pipeline(network, score_threshold=0, mask_threshold=1)(frame).masks.areas().sum() == 0


def test_times_of_the_stages_add_up(small_spec, small_outputs):
    pipeline = Pipeline(FixedNetwork(small_spec, small_outputs))
    assert pipeline.timings is None
    pipeline(np.zeros((64, 96, 3), np.uint8))
    times = pipeline.timings
    assert times.total_ms == pytest.approx(times.preprocess_ms + times.network_ms + times.postprocess_ms)
    assert min(dataclasses.astuple(times)) > 0


def test_leaving_the_pipeline_closes_the_network(small_spec, small_outputs):
    network = FixedNetwork(small_spec, small_outputs)
    with pytest.raises(RuntimeError), Pipeline(network):
        raise RuntimeError
    assert network.closed


@pytest.mark.parametrize(
    "frame",
    [
        None,
        [[0]],
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
    ids=["none", "list", "grey", "alpha", "float", "empty"],
)
def test_a_frame_of_another_kind_is_a_data_error(small_spec, small_outputs, frame):
    with pytest.raises(DataError, match=r"uint8 \[height, width, 3\]"):
        Pipeline(FixedNetwork(small_spec, small_outputs))(frame)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score_threshold": 1.5}, "score threshold must lie between 0 and 1, not 1.5"),
        ({"mask_threshold": -0.1}, "mask threshold"),
        ({"mask_threshold": float("nan")}, "mask threshold"),
        ({"max_detections": 0}, "at least 1"),
        ({"classes": ["dgo"]}, "no class 'dgo'; did you mean 'dog'"),
        ({"classes": [3]}, "no class number 3; it has 0 to 2"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(small_spec, small_outputs, options, words):
    with pytest.raises(UsageError, match=words):
        Pipeline(FixedNetwork(small_spec, small_outputs), **options)

# SPDX-License-Identifier: Apache-2.0
"""Frame to instances: which objects stay, where their boxes and masks lie, what is refused."""

from __future__ import annotations

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.pipeline.cpu import LARGEST_BATCH, Pipeline, postprocess
from centermask_runtime.reference.masks import box_masks
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.selection import Selection

FRAME_HW = (128, 192)


class FixedNetwork:
    """A Network whose outputs are given; it keeps what it was asked."""

    description, batch = "fixed", 1

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
    found = postprocess(outputs, 0, letterbox, small_spec, Selection.of(small_spec))
    assert found.scores.tolist() == pytest.approx([0.9, 0.25])


def test_score_0_is_no_object_even_at_threshold_0(small_spec, letterbox):
    outputs = outputs_of(small_spec, [0.9, 0.1, 0, np.nan], [BOX] * 4)
    found = postprocess(outputs, 0, letterbox, small_spec, Selection.of(small_spec, conf=0))
    assert found.scores.tolist() == pytest.approx([0.9, 0.1])


def test_a_box_outside_the_frame_is_dropped_but_an_empty_mask_stays(small_spec, letterbox):
    boxes = [(-20, 0, -1, 9), (5, 5, 5, 9), (np.nan, 0, 9, 9), BOX]
    outputs = outputs_of(small_spec, [0.9, 0.8, 0.7, 0.6], boxes, logit=-9)
    found = postprocess(outputs, 0, letterbox, small_spec, Selection.of(small_spec))
    assert found.scores.tolist() == pytest.approx([0.6])
    assert found.masks.areas().tolist() == [0]
    assert found.masks.rects.tolist() == [[20, 20, 40, 40]]


def test_boxes_are_reported_clipped_and_sampled_whole(small_spec, small_outputs, letterbox):
    box = np.array([-16, -8, 48, 40], np.float32)  # a quarter of it lies outside
    outputs = dataclasses.replace(small_outputs, boxes=np.broadcast_to(box, small_outputs.boxes.shape))
    found = postprocess(outputs, 1, letterbox, small_spec, Selection.of(small_spec, conf=0))
    assert (found.boxes == [0, 0, 96, 80]).all()
    expected = box_masks(
        np.tile(box * 2, (8, 1)), outputs.labels[1], outputs.shapes[1], outputs.saliency[1], letterbox, 4, 0.3
    )
    np.testing.assert_array_equal(found.masks.canvases(), expected.canvases())


def test_best_first_and_at_most_max_detections(small_spec, letterbox):
    outputs = outputs_of(small_spec, [0.5, 0.9, 0.7, 0.9], [BOX] * 4, labels=[0, 1, 2, 0])
    found = postprocess(outputs, 0, letterbox, small_spec, Selection.of(small_spec, max_det=3))
    assert found.scores.tolist() == pytest.approx([0.9, 0.9, 0.7]) and found.labels.tolist() == [1, 0, 2]


def test_only_the_classes_asked_for(small_spec, letterbox):
    outputs = outputs_of(small_spec, [0.9, 0.8, 0.7], [BOX] * 3, labels=[0, 1, 2])
    two = Selection.of(small_spec, classes=[2, 0])
    none = dataclasses.replace(two, classes=())
    assert postprocess(outputs, 0, letterbox, small_spec, two).labels.tolist() == [0, 2]
    assert len(postprocess(outputs, 0, letterbox, small_spec, none)) == 0


def test_a_higher_mask_threshold_gives_a_part_of_the_mask(small_spec, small_outputs, letterbox):
    chosen = (Selection.of(small_spec, mask_threshold=threshold) for threshold in (0.2, 0.6))
    low, high = (postprocess(small_outputs, 0, letterbox, small_spec, one).masks.canvases() for one in chosen)
    assert (high <= low).all() and high.sum() < low.sum()


def test_results_do_not_change_when_the_network_reuses_its_arrays(small_spec, small_outputs, letterbox):
    found = postprocess(small_outputs, 0, letterbox, small_spec, Selection.of(small_spec))
    before = found.boxes.copy(), found.scores.copy(), found.labels.copy(), found.masks.canvases()
    for array in vars(small_outputs).values():
        array[:] = 0
    for earlier, now in zip(before, (found.boxes, found.scores, found.labels, found.masks.canvases()), strict=True):
        np.testing.assert_array_equal(earlier, now)


def test_no_detections_are_a_result(small_spec, letterbox):
    for scores in ([], [0.0]):
        outputs = outputs_of(small_spec, scores, [BOX] * len(scores))
        found = postprocess(outputs, 0, letterbox, small_spec, Selection.of(small_spec))
        assert len(found) == 0 and found.boxes.shape == (0, 4) and found.to_coco(1) == []


def test_the_network_gets_the_letterboxed_frame(small_spec, small_outputs):
    network = FixedNetwork(small_spec, small_outputs)
    frame = np.random.default_rng(0).integers(0, 256, (*small_spec.input_hw, 3), dtype=np.uint8)
    Pipeline(network)(frame)
    np.testing.assert_array_equal(network.images[0], frame[None])


def test_frames_of_changing_size(small_spec, small_outputs):
    pipeline = Pipeline(FixedNetwork(small_spec, small_outputs), Selection.of(small_spec, conf=0))
    for frame_hw in ((64, 96), (300, 20), (64, 96), (1, 1)):
        found = pipeline(np.zeros((*frame_hw, 3), np.uint8))
        assert found.frame_hw == frame_hw
        assert (found.boxes >= 0).all() and (found.boxes <= np.array(frame_hw[::-1] * 2)).all()


def test_a_selection_given_to_the_pipeline_wins_over_the_spec(small_spec, small_outputs):
    def found(**selection):
        return Pipeline(FixedNetwork(small_spec, small_outputs), Selection.of(small_spec, conf=0, **selection))(frame)

    frame = np.zeros((64, 96, 3), np.uint8)
    assert len(found()) == 8
    assert len(found(max_det=2)) == 2
    assert set(found(classes=["dog", 2]).labels) <= {1, 2}
    assert found(mask_threshold=1).masks.areas().sum() == 0


def test_times_of_the_stages_add_up(small_spec, small_outputs):
    pipeline = Pipeline(FixedNetwork(small_spec, small_outputs))
    found, times = pipeline.timed(np.zeros((64, 96, 3), np.uint8))
    assert len(found) > 0
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


class Brightness:
    """A Network whose scores are the images' mean brightness, so that each answer shows which image it was given."""

    description = "brightness"

    def __init__(self, spec, batch=None):
        self.spec, self.batch, self.calls = spec, batch, []

    def run(self, images):
        assert self.batch in (None, len(images))
        self.calls.append(len(images))
        n, k, size = len(images), self.spec.max_detections, self.spec.shape_size
        scores = np.repeat(images.mean(axis=(1, 2, 3), dtype=np.float32)[:, None] / 255, k, axis=1)
        boxes = np.tile(np.array([4, 4, 30, 30], np.float32), (n, k, 1))
        saliency = np.ones((n, self.spec.saliency_channels, *self.spec.grid_hw), np.float32)
        return PeakOutputs(scores, np.zeros((n, k), np.int32), boxes, np.ones((n, k, size, size), np.float32), saliency)

    def close(self):
        pass


def grey_frames(spec, count):
    return [np.full((*spec.input_hw, 3), 100 + index, np.uint8) for index in range(count)]


@pytest.mark.parametrize(
    ("batch", "count", "calls"),
    [
        (None, 3, [3]),
        (None, 2 * LARGEST_BATCH + 1, [LARGEST_BATCH, LARGEST_BATCH, 1]),
        (1, 3, [1, 1, 1]),
        (4, 6, [4, 4]),
        (None, 0, []),
    ],
)
def test_many_frames_go_through_the_network_together_as_its_batch_allows(small_spec, batch, count, calls):
    network = Brightness(small_spec, batch)
    found = Pipeline(network).many(grey_frames(small_spec, count))
    assert network.calls == calls
    assert [float(one.scores[0]) * 255 for one in found] == pytest.approx([100 + index for index in range(count)])


def test_a_network_of_a_fixed_batch_takes_single_frames(small_spec):
    network = Brightness(small_spec, 4)
    found = Pipeline(network)(grey_frames(small_spec, 1)[0])
    assert network.calls == [4] and float(found.scores[0]) * 255 == pytest.approx(100)


def test_each_gives_the_results_in_order_and_takes_frames_only_when_asked(small_spec):
    taken = []

    def frames():
        for frame in grey_frames(small_spec, 5):
            taken.append(frame)
            yield frame

    results = Pipeline(Brightness(small_spec)).each(frames())
    assert taken == []
    assert float(next(results).scores[0]) * 255 == pytest.approx(100) and len(taken) == 1
    assert [round(float(one.scores[0]) * 255) for one in results] == [101, 102, 103, 104]


def test_drawn_gives_each_frames_picture_beside_its_result(small_spec, small_outputs):
    pipeline, style = Pipeline(FixedNetwork(small_spec, small_outputs)), DrawStyle(labels=False)
    frames = [np.full((64, 96, 3), 40 * index, np.uint8) for index in range(3)]
    for (found, picture), frame in zip(pipeline.drawn(frames, style), frames, strict=True):
        assert len(found) and (frame == frame[0, 0]).all()
        np.testing.assert_array_equal(picture, draw(frame, found, style))
        assert (picture != frame).any()


def test_eight_threads_get_the_answers_to_their_own_frames(small_spec):
    """Of frames of several sizes, so that what the pipeline remembers of the last size is shared, too."""
    network = Brightness(small_spec)
    pipeline = Pipeline(network)
    frames = [np.full((*hw, 3), 80 + index, np.uint8) for index in range(50) for hw in ((64, 96), (128, 192))]
    truth = [pipeline(frame) for frame in frames]
    wrong = []

    def work(start):
        for step in range(len(frames)):
            index = (start * 7 + step) % len(frames)
            found = pipeline(frames[index])
            if found.frame_hw != truth[index].frame_hw or not np.array_equal(found.scores, truth[index].scores):
                wrong.append(index)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns in the middle of everything
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)
    assert wrong == []

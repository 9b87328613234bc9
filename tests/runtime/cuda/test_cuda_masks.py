# SPDX-License-Identifier: Apache-2.0
"""Selection, masks, run lengths and overlay on the device equal postprocess and reference/ bit for bit.

On the CPU, and on a GPU where there is one.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from centermask_runtime.cuda import kernels
from centermask_runtime.cuda.buffers import Arena, PeakPointers
from centermask_runtime.cuda.layouts import results_layout
from centermask_runtime.cuda.stages import LARGEST_S, Stages, pen
from centermask_runtime.errors import UsageError
from centermask_runtime.geometry import Letterbox
from tests.support.cuda_cpu.compare import (
    Drawn,
    Session,
    random_outputs,
    results_equal_reference,
    spec_of_grid,
    with_boxes,
)

SPEC = spec_of_grid(3, (16, 24), 12, shape_size=8, channels=3)  # input 64 x 96
WIDE = Letterbox.fit((71, 150), SPEC.input_hw)
TALL = Letterbox.fit((150, 61), SPEC.input_hw)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize(
    "letterbox", [WIDE, TALL, Letterbox.fit((64, 96), SPEC.input_hw), Letterbox.fit((1, 1), (64, 96))]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_random_detections_from_boxes_to_picture(cuda_device, rng, letterbox, channels):
    spec = dataclasses.replace(SPEC, saliency_channels=channels)
    frames = rng.integers(0, 256, (2, *letterbox.frame_hw, 3), dtype=np.uint8)
    outputs = random_outputs(rng, spec, 2)
    truth = results_equal_reference(cuda_device, outputs, letterbox, spec, drawn=Drawn(frames))
    assert sum(map(len, truth)) > 0


@pytest.mark.parametrize(
    ("masks", "boxes", "numbers"), [(True, False, False), (False, True, False), (True, True, True)]
)
@pytest.mark.parametrize("frame_hw", [(64, 96), (604, 605), (1210, 1204)])
def test_overlays_with_thin_and_thick_lines(cuda_device, rng, frame_hw, masks, boxes, numbers):
    """Lines are 1, 2 and 3 pixels thick."""
    spec = dataclasses.replace(SPEC, max_detections=4, class_names=("one",), category_ids=(1,), saliency_channels=1)
    letterbox = Letterbox.fit(frame_hw, spec.input_hw)
    frames = rng.integers(0, 256, (1, *frame_hw, 3), dtype=np.uint8)
    ids = rng.integers(0, 1000, (1, 4)).astype(np.int32) if numbers else None
    outputs = random_outputs(rng, spec, 1, spread=0.4)
    results_equal_reference(
        cuda_device, outputs, letterbox, spec, score_threshold=0.0, drawn=Drawn(frames, masks, boxes, ids)
    )


@pytest.mark.parametrize("thickness", range(1, 12))
def test_the_pen_draws_opencvs_rectangles(thickness):
    radius, packed = pen(thickness)
    widths = [packed >> 4 * d & 15 for d in range(radius + 1)]
    left, top, right, bottom = 20, 25, 50, 47
    expected = np.zeros((80, 80), np.uint8)
    cv2.rectangle(expected, (left, top), (right, bottom), 1, thickness)
    found = np.zeros_like(expected)
    for y, x in np.ndindex(found.shape):
        edges = (
            (y, top, x, left, right),
            (y, bottom, x, left, right),
            (x, left, y, top, bottom),
            (x, right, y, top, bottom),
        )
        for across, edge, along, first, last in edges:
            distance = abs(across - edge)
            if distance <= radius and first - widths[distance] <= along <= last + widths[distance]:
                found[y, x] = 1
    np.testing.assert_array_equal(found, expected)


ADVERSE = [
    (5, 5, 5, 9), (9, 9, 5, 5), (-50, -50, -10, -10), (300, 300, 390, 390), (-1e30, -1e30, 1e30, 1e30),
    (-np.inf, -np.inf, np.inf, np.inf), (np.nan, 0, 9, 9), (0, 0, np.nan, 9), (-3e38, -3e38, 3e38, 3e38),
    (0, 0, 96, 64), (0, 9, 96, 55), (20.49, 20.49, 20.51, 20.51), (3.4, 30.4, 3.6, 30.6), (-5, -5, 200, 200),
    (95, 63, 96, 64), (0, 20, 1e-30, 40), (10, -1e9, 11, 1e9), (0, 0, 17, 64), (80, 0, 96, 64), (31, 10, 63, 42),
    (8, 12, 40, 13), (8, 12, 9, 44), (1e-40, 10, 96, 50), (-1e-3, 9.4, 33, 50),
]  # fmt: skip


@pytest.mark.parametrize("letterbox", [Letterbox.fit((64, 96), (64, 96)), Letterbox.fit((46, 96), (64, 96)), TALL])
@pytest.mark.parametrize("level", [-4.0, 0.0, 9.0])
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # of boxes beyond float32, on the CPU path
def test_awkward_boxes(cuda_device, rng, letterbox, level):
    spec = dataclasses.replace(SPEC, max_detections=len(ADVERSE))
    outputs = with_boxes(random_outputs(rng, spec, 2), np.array(ADVERSE, np.float32))
    outputs.shapes[:] += level
    outputs.saliency[:] += level
    frames = rng.integers(0, 256, (2, *letterbox.frame_hw, 3), dtype=np.uint8)
    results_equal_reference(cuda_device, outputs, letterbox, spec, score_threshold=0.0, drawn=Drawn(frames))


def test_full_masks_run_over_the_columns_of_the_frame(cuda_device, rng):
    """Runs that reach the bottom go on at the top of the next column: one run for all."""
    spec = dataclasses.replace(SPEC, max_detections=3)
    boxes = [(0, 0, 96, 64), (0, 0, 50, 64), (50, 0, 96, 64)]
    outputs = with_boxes(random_outputs(rng, spec, 1), np.array(boxes, np.float32))
    outputs.shapes[:], outputs.saliency[:] = 40, 40
    letterbox = Letterbox.fit((64, 96), spec.input_hw)
    (truth,) = results_equal_reference(cuda_device, outputs, letterbox, spec, score_threshold=0.0)
    assert truth.masks.canvases().sum() == 2 * 64 * 96


def test_a_checkerboard_has_the_most_runs(cuda_device, rng):
    spec = dataclasses.replace(SPEC, max_detections=2, shape_size=64)
    outputs = with_boxes(random_outputs(rng, spec, 1), np.array([(0, 0, 64, 64), (32, 0, 96, 64)], np.float32))
    outputs.shapes[:] = np.where(np.indices((64, 64)).sum(0) % 2, 40, -40)
    outputs.saliency[:] = 40
    letterbox = Letterbox.fit((64, 96), spec.input_hw)
    results_equal_reference(cuda_device, outputs, letterbox, spec, score_threshold=0.0, mask_threshold=0.5)


def test_nan_and_infinite_logits_scores_and_thresholds(cuda_device, rng):
    outputs = random_outputs(rng, SPEC, 2)
    for array in (outputs.shapes, outputs.saliency):
        array[rng.random(array.shape) < 0.2] = np.nan
        array[rng.random(array.shape) < 0.1] = np.inf
        array[rng.random(array.shape) < 0.1] = -np.inf
    outputs.scores[0, :4] = np.nan, np.inf, -1, 0
    for threshold in (0.0, 0.3, 1.0):
        results_equal_reference(cuda_device, outputs, WIDE, SPEC, score_threshold=threshold, mask_threshold=threshold)


def test_equal_scores_keep_their_order(cuda_device, rng):
    outputs = random_outputs(rng, SPEC, 2)
    outputs.scores[:] = np.round(outputs.scores * 3) / 3
    results_equal_reference(cuda_device, outputs, WIDE, SPEC)


@pytest.mark.parametrize("most", [0, 1, 5])
@pytest.mark.parametrize("classes", [None, (), (1,), (0, 2)])
def test_the_number_and_the_classes_are_limited(cuda_device, rng, most, classes):
    results_equal_reference(
        cuda_device, random_outputs(rng, SPEC, 2), WIDE, SPEC, max_detections=most, classes=classes,
        drawn=Drawn(np.zeros((2, *WIDE.frame_hw, 3), np.uint8)),
    )  # fmt: skip


def test_a_frame_of_a_few_blocks(cuda_device, rng):
    """Small enough for ThreadSanitizer, from select to draw."""
    spec = dataclasses.replace(SPEC, max_detections=3)
    boxes = np.array([(0, 0, 96, 64), (5, 20, 60, 50), (40, 10, 90, 60)], np.float32)
    letterbox = Letterbox.fit((12, 40), spec.input_hw)
    frames = rng.integers(0, 256, (1, 12, 40, 3), dtype=np.uint8)
    outputs = with_boxes(random_outputs(rng, spec, 1), boxes)
    results_equal_reference(cuda_device, outputs, letterbox, spec, score_threshold=0.0, drawn=Drawn(frames))


def test_no_detections(cuda_device, rng):
    outputs = random_outputs(rng, SPEC, 1)
    frames = np.zeros((1, *WIDE.frame_hw, 3), np.uint8)
    (truth,) = results_equal_reference(cuda_device, outputs, WIDE, SPEC, score_threshold=1.1, drawn=Drawn(frames))
    assert len(truth) == 0


def test_more_detections_than_threads_of_a_block(cuda_device, rng):
    spec = dataclasses.replace(SPEC, max_detections=700, shape_size=4)
    outputs = random_outputs(rng, spec, 1, spread=0.3)
    (truth,) = results_equal_reference(cuda_device, outputs, WIDE, spec, score_threshold=0.0)
    assert len(truth) > 256


def test_a_detection_of_no_class_is_dropped(cuda_device, rng):
    """reference/ asserts; a kernel must not read beyond its arrays."""
    outputs = random_outputs(rng, SPEC, 1)
    outputs.labels[0, :3] = -1, 3, np.iinfo(np.int32).max
    with Session(cuda_device, SPEC, 1) as session:
        layout = results_layout(SPEC, 1)
        results = layout.at(session.room(layout.nbytes))
        arrays = (outputs.scores, outputs.labels, outputs.boxes, outputs.shapes, outputs.saliency)
        session.stages.select(
            PeakPointers(*map(session.put, arrays)), WIDE, results, 1, session.stream,
            allowed=session.put(np.ones(3, np.uint8)), score_threshold=0.0, max_detections=12,
        )  # fmt: skip
        found = session.views(results)
    kept = found["rows"][0, : found["found"][0]]
    assert len(kept) and kept.min() >= 3


def test_an_arena_that_is_too_small_is_reported_and_not_overrun(cuda_device, rng):
    outputs = random_outputs(rng, SPEC, 1)
    with Session(cuda_device, SPEC, 1) as session:
        layout = results_layout(SPEC, 1)
        results = layout.at(session.room(layout.nbytes))
        arrays = (outputs.scores, outputs.labels, outputs.boxes, outputs.shapes, outputs.saliency)
        pointers = PeakPointers(*map(session.put, arrays))
        guard = np.full(4096, 0xAB, np.uint8)
        memory, run_memory = session.put(guard), session.put(guard)
        arena, runs = Arena(memory, 100), Arena(run_memory, 30)
        stages, stream = session.stages, session.stream
        allowed = session.put(np.ones(3, np.uint8))
        stages.select(pointers, WIDE, results, 1, stream, allowed=allowed, score_threshold=0.0, max_detections=12)
        stages.masks(pointers, WIDE, results, arena, session.probabilities, 1, stream, mask_threshold=0.3)
        stages.runs(WIDE.frame_hw, results, arena, runs, 1, stream)
        frames = session.put_frames(np.zeros((1, *WIDE.frame_hw, 3), np.uint8))
        stages.draw(frames, WIDE.frame_hw, results, arena, session.palette, stream)
        found = session.views(results)
        assert found["mask_bytes"][0] > 100
        np.testing.assert_array_equal(session.get(memory, (4096,))[100:], guard[100:])
        np.testing.assert_array_equal(session.get(run_memory, (4096,))[120:], guard[120:])


def test_a_model_that_the_kernels_cannot_hold_is_refused(cuda_device):
    for spec in (
        dataclasses.replace(SPEC, max_detections=5000, input_hw=(256, 256)),
        dataclasses.replace(SPEC, shape_size=LARGEST_S + 1),
    ):
        with pytest.raises(UsageError):
            Stages(cuda_device.driver, cuda_device.image, spec)


def test_the_largest_shapes_fit(cuda_device, rng):
    spec = dataclasses.replace(SPEC, max_detections=1, shape_size=LARGEST_S)
    results_equal_reference(cuda_device, random_outputs(rng, spec, 1), WIDE, spec, score_threshold=0.0)


def test_kernels_include_only_their_header():
    """NVRTC finds no other."""
    for name in (*kernels.SOURCES, *kernels.HEADERS):
        text = (kernels.FOLDER / name).read_text()
        includes = [line for line in text.splitlines() if line.startswith("#include")]
        assert includes == ([] if name in kernels.HEADERS else ['#include "common.cuh"'])

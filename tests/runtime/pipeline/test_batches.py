# SPDX-License-Identifier: Apache-2.0
"""Frames that go through a network together: which ones do, and that each gets its own result, with fewer launches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.pipeline.batches import in_batches, together
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.gpu import GpuPipeline
from centermask_runtime.reference.nv12 import Nv12Frame, YuvMatrix
from tests.support.cuda_cpu.build import compiler
from tests.support.given_networks import (
    SeeingCpuNetwork,
    SeeingNetwork,
    assert_same,
    fill_memory_after,
    given_sets,
    random_frames,
)

needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs g++ to compile the kernels for the CPU")

SMALL, LARGE = (40, 60), (97, 61)


@pytest.fixture(params=["peaks", "heads"])
def spec(request, small_spec):
    return dataclasses.replace(small_spec, graph_level=request.param)


def grey(size_hw, value=0):
    return np.full((*size_hw, 3), value, np.uint8)


def shades(count, sizes=(LARGE,)):
    """Frames of rising brightness with some noise, so that each has a result of its own."""
    noisy = random_frames(count, sizes=sizes)
    return [frame // 4 + np.uint8(180 * index // max(count - 1, 1)) for index, frame in enumerate(noisy)]


def test_frames_of_one_size_in_a_row_go_together_up_to_the_batch():
    frames = [grey(SMALL)] * 5 + [grey(LARGE)] * 2 + [grey(SMALL)]
    assert [len(batch) for batch in in_batches(frames, 3)] == [3, 2, 2, 1]
    assert [len(batch) for batch in in_batches(frames, 1)] == [1] * 8
    assert list(in_batches([], 3)) == []


def test_nv12_goes_with_nv12_of_the_same_matrix():
    bgr = grey(SMALL)
    one, other = (Nv12Frame(np.zeros((60, 60), np.uint8), matrix) for matrix in YuvMatrix)
    assert [len(batch) for batch in in_batches([bgr, one, one, other, bgr], 4)] == [1, 2, 1, 1]


def test_a_batch_keeps_frames_whose_array_is_filled_again():
    frame = grey(SMALL)

    def one_array_for_all():
        for value in range(4):
            frame[:] = value
            yield frame

    assert [[int(kept.max()) for kept in batch] for batch in in_batches(one_array_for_all(), 3)] == [[0, 1, 2], [3]]


def test_a_single_frame_is_neither_copied_nor_kept_waiting():
    taken = []

    def frames():
        for value in range(3):
            taken.append(value)
            yield grey(SMALL, value)

    batches = in_batches(frames(), 1)
    (first,) = next(batches)
    assert first.max() == 0 and taken == [0]


def test_frames_that_are_all_there_go_together_wherever_they_are():
    frames = [grey(SMALL), grey(LARGE), grey(SMALL), grey(SMALL), grey(LARGE)]
    assert together(frames, 2) == [[0, 2], [3], [1, 4]]
    assert together([], 2) == []
    with pytest.raises(DataError):
        together([grey(SMALL), np.zeros((4, 4), np.uint8)], 2)


@needs_compiler
@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_each_frame_of_a_batch_has_the_result_that_it_has_alone(driver, cpu_kernels, spec, batch, slots):
    frames = shades(11)
    arrays = next(given_sets(spec, 1))
    network = SeeingNetwork(driver, spec, arrays, batch)
    with GpuPipeline(driver, network, kernels=cpu_kernels, slots=slots) as pipeline:
        many, each = pipeline.many(frames), list(pipeline.each(iter(frames)))
        alone = [pipeline(frame) for frame in frames[:3]]
        assert pipeline.many([]) == []
    cpu = Pipeline(SeeingCpuNetwork(spec, arrays))
    expected = [cpu(frame) for frame in frames]
    assert len({one.scores.tobytes() for one in expected}) == len(frames) and sum(map(len, expected)) > 20
    for found in (many, each):
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    for one, other in zip(alone, expected[:3], strict=True):
        assert_same(one, other)


@needs_compiler
def test_frames_of_several_sizes_come_back_in_their_order(driver, cpu_kernels, small_spec):
    frames = shades(9, (SMALL, LARGE, SMALL))
    arrays = next(given_sets(small_spec, 1))
    network = SeeingNetwork(driver, small_spec, arrays, 4)
    with GpuPipeline(driver, network, kernels=cpu_kernels) as pipeline:
        found = pipeline.many(frames)
        assert network.calls == 2 + 1  # six small frames and three large ones
        each = list(pipeline.each(frames))
    cpu = Pipeline(SeeingCpuNetwork(small_spec, arrays))
    for one, other, frame in zip(found, each, frames, strict=True):
        expected = cpu(frame)
        assert_same(one, expected)
        assert_same(other, expected)


@needs_compiler
def test_masks_that_need_more_memory_than_ever_before_are_right_for_each_frame(driver, cpu_kernels, small_spec):
    """All objects cover the frame: the arena grows while the batch is under way, and the batch runs again."""
    spec = small_spec
    k, size = spec.max_detections, spec.shape_size
    full = (
        np.linspace(0.9, 0.7, k, dtype=np.float32)[None], np.zeros((1, k), np.int32),
        np.tile(np.array([0, 0, 96, 64], np.float32), (1, k, 1)), np.full((1, k, size, size), 5, np.float32),
        np.full((1, spec.saliency_channels, *spec.grid_hw), 5, np.float32),
    )  # fmt: skip
    frames = shades(6, ((128, 192),))
    with GpuPipeline(driver, SeeingNetwork(driver, spec, full, 4), kernels=cpu_kernels) as pipeline:
        found = pipeline.many(frames)
    cpu = Pipeline(SeeingCpuNetwork(spec, full))
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, cpu(frame))
    assert all(one.masks.areas().tolist() == [128 * 192] * k for one in found)


@needs_compiler
@pytest.mark.parametrize(("level", "kernels_per_call"), [("peaks", 4), ("heads", 7)])
def test_a_batch_of_eight_takes_the_launches_of_one_frame(
    driver, cpu_kernels, small_spec, level, kernels_per_call, record_property
):
    spec = dataclasses.replace(small_spec, graph_level=level)
    frames, arrays = shades(8), next(given_sets(spec, 1))
    kernels, graphs = {}, {}
    for batch in (1, 8):
        network = SeeingNetwork(driver, spec, arrays, batch)
        with GpuPipeline(driver, network, kernels=cpu_kernels, slots=1, graphs=False) as pipeline:
            before = driver.launches["kernel"]
            pipeline.many(frames)
            kernels[batch] = driver.launches["kernel"] - before
        with GpuPipeline(driver, SeeingNetwork(driver, spec, arrays, batch), kernels=cpu_kernels, slots=1) as pipeline:
            for _ in range(2):
                pipeline.many(frames)  # until there is a graph
            before = driver.launches["graph"]
            pipeline.many(frames)
            graphs[batch] = driver.launches["graph"] - before
    record_property("kernel launches of 8 frames, one by one and as a batch", (kernels[1], kernels[8]))
    record_property("graph launches of 8 frames, one by one and as a batch", (graphs[1], graphs[8]))
    assert (kernels[1], kernels[8]) == (8 * kernels_per_call, kernels_per_call)
    assert (graphs[1], graphs[8]) == (8, 1)


@needs_compiler
def test_a_batch_that_fails_leaves_the_pipeline_usable(driver, cpu_kernels, small_spec):
    arrays = next(given_sets(small_spec, 1))
    with GpuPipeline(driver, SeeingNetwork(driver, small_spec, arrays, 4), kernels=cpu_kernels) as pipeline:
        few = pipeline.many(shades(3))
        allocate = driver.driver.allocate
        fill_memory_after(driver, 0)
        with pytest.raises(Exception, match="out of memory"):
            pipeline.many(shades(4, ((400, 600),)))
        driver.driver.allocate = allocate
        for one, other in zip(few, pipeline.many(shades(3)), strict=True):
            assert_same(one, other)

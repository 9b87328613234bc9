# SPDX-License-Identifier: Apache-2.0
"""Slots, streams and memory of the GPU pipeline without a GPU: frames in flight do not touch each other, nothing is
allocated frame by frame, and all of it is given back, after errors too."""

from __future__ import annotations

import dataclasses
import itertools
import os

import numpy as np
import pytest

from centermask_runtime.cuda.counted_driver import CountedDriver
from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.errors import UsageError
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.gpu import GpuPipeline
from tests.support.cuda_cpu.build import compiler
from tests.support.cuda_cpu.cpu_driver import CpuDriver
from tests.support.given_networks import (
    CpuNetwork,
    GivenNetwork,
    assert_same,
    fill_memory_after,
    given_sets,
    host_array,
    random_frames,
)

FLAT_FRAMES = int(os.environ.get("CENTERMASK_LONG_RUN", "200"))  # of 64 x 96; docs/gpu.md: run with 10,000

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++ to compile the kernels for the CPU")


@pytest.fixture(params=["peaks", "heads"])
def spec(request, small_spec):
    return dataclasses.replace(small_spec, graph_level=request.param)


def test_masks_larger_than_the_first_arena_make_it_grow_once(driver, cpu_kernels, small_spec):
    spec = small_spec
    k, size = spec.max_detections, spec.shape_size
    whole = np.tile(np.array([0, 0, 96, 64], np.float32), (1, k, 1))
    full = (
        np.linspace(0.9, 0.5, k, dtype=np.float32)[None], np.zeros((1, k), np.int32), whole,
        np.full((1, k, size, size), 5, np.float32), np.full((1, spec.saliency_channels, *spec.grid_hw), 5, np.float32),
    )  # fmt: skip
    frames = random_frames(5, sizes=((128, 192),))
    for slots in (1, 2):
        with GpuPipeline(driver, GivenNetwork(driver, spec, [full]), kernels=cpu_kernels, slots=slots) as pipeline:
            found = []
            counts = []
            for instances in pipeline.each(frames):
                found.append(instances)
                counts.append(driver.made["memory"])
        cpu = Pipeline(CpuNetwork(spec, [full]))
        for one, frame in zip(found, frames, strict=True):
            assert_same(one, cpu(frame))
        assert len(found[0]) == k and found[0].masks.areas().tolist() == [128 * 192] * k
        assert counts[-1] == counts[slots]


@pytest.mark.parametrize("compute_first", [False, True])
def test_a_frame_may_change_as_soon_as_the_next_one_is_asked_for(driver, cpu_kernels, small_spec, compute_first):
    seen = []
    network = GivenNetwork(driver, small_spec, list(given_sets(small_spec, 1)))
    plain = network.enqueue

    def enqueue(images, outputs, stream):
        shape = (*small_spec.input_hw, 3)
        driver.driver.host_function(lambda: seen.append(host_array(images, np.empty(shape, np.uint8)).copy()), stream)
        plain(images, outputs, stream)

    network.enqueue = enqueue
    stream = driver.create_stream()

    def one_array_for_all():
        frame = np.zeros((64, 96, 3), np.uint8)
        for value in (10, 20, 30, 40):
            frame[:] = value
            yield frame
            frame[:] = 255
            if compute_first:
                driver.synchronize(stream)  # only an event makes it wait for the upload

    with GpuPipeline(driver, network, kernels=cpu_kernels, slots=2, stream=stream) as pipeline:
        assert len(list(pipeline.each(one_array_for_all()))) == 4
    driver.destroy_stream(stream)
    assert [image.min() for image in seen] == [image.max() for image in seen] == [10, 20, 30, 40]


def test_results_stay_when_later_frames_come(driver, cpu_kernels, small_spec):
    arrays = list(given_sets(small_spec, 5))
    frames = random_frames(5, sizes=((128, 192),))
    cpu = Pipeline(CpuNetwork(small_spec, arrays))
    with GpuPipeline(driver, GivenNetwork(driver, small_spec, arrays), kernels=cpu_kernels, slots=2) as pipeline:
        found = list(pipeline.each(frames))
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, cpu(frame))


def test_allocations_are_flat_over_a_long_run(driver, cpu_kernels, spec):
    frames = itertools.cycle(random_frames(4, sizes=((64, 96),)))
    network = GivenNetwork(driver, spec, list(given_sets(spec, 3)))
    with GpuPipeline(driver, network, kernels=cpu_kernels, slots=2) as pipeline:
        results = pipeline.each(itertools.islice(frames, FLAT_FRAMES))
        for _ in itertools.islice(results, 8):
            pass
        made, live, size = dict(driver.made), driver.live, driver.live_bytes
        assert sum(1 for _ in results) == FLAT_FRAMES - 8
        assert (dict(driver.made), driver.live, driver.live_bytes) == (made, live, size)


def test_work_goes_on_the_stream_that_was_given_and_it_is_not_destroyed(driver, cpu_kernels, small_spec):
    stream = driver.create_stream()
    used = set()
    network = GivenNetwork(driver, small_spec, list(given_sets(small_spec, 1)))
    plain = network.enqueue
    network.enqueue = lambda images, outputs, on: (used.add(on), plain(images, outputs, on))
    with GpuPipeline(driver, network, kernels=cpu_kernels, stream=stream) as pipeline:
        pipeline(random_frames(1)[0])
    assert used == {stream} and driver.live["stream"] == 1
    driver.destroy_stream(stream)


def test_a_network_bound_to_another_stream_is_refused(driver, cpu_kernels, small_spec):
    network = GivenNetwork(driver, small_spec, [])
    network.stream = 5
    with pytest.raises(UsageError, match="another stream"):
        GpuPipeline(driver, network, kernels=cpu_kernels, stream=6)
    assert network.closed  # the pipeline's from the call on


def test_no_slots_are_refused_and_the_network_is_closed(driver, cpu_kernels, small_spec):
    network = GivenNetwork(driver, small_spec, [])
    with pytest.raises(UsageError, match=r"^slots must be at least 1, not 0\.$"):
        GpuPipeline(driver, network, kernels=cpu_kernels, slots=0)
    assert network.closed


@pytest.mark.parametrize("body_fails", [False, True])
def test_after_an_error_that_stays_everything_is_given_back_and_the_first_error_is_seen(
    cpu_kernels, small_spec, body_fails
):
    driver = CountedDriver(CpuDriver())
    network = GivenNetwork(driver, small_spec, list(given_sets(small_spec, 1)))
    freed, free = [], driver.driver.free

    def broken(name):
        def call(*arguments):
            raise DriverError(f"{name} failed with CUDA_ERROR_ILLEGAL_ADDRESS.")

        return call

    def failing_free(pointer):
        freed.append(pointer)
        free(pointer)
        raise DriverError("cuMemFree failed with CUDA_ERROR_ILLEGAL_ADDRESS.")

    first = "cuEventRecord" if body_fails else "cuStreamSynchronize"
    with (
        pytest.raises(DriverError, match=f"{first} failed"),
        GpuPipeline(driver, network, kernels=cpu_kernels, slots=2) as pipeline,
    ):
        pipeline(random_frames(1)[0])
        driver.synchronize = broken("cuStreamSynchronize")
        driver.driver.free = failing_free
        if body_fails:
            broken("cuEventRecord")()
    assert network.closed and freed and not driver.driver.allocated
    pipeline.close()  # twice is once


def test_what_a_failed_construction_took_is_given_back(driver, cpu_kernels, small_spec):
    fill_memory_after(driver, 4)
    network = GivenNetwork(driver, small_spec, [])
    with pytest.raises(DriverError, match="out of memory"):
        GpuPipeline(driver, network, kernels=cpu_kernels)
    assert not any(driver.live.values()) and network.closed

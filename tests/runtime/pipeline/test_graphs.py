# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs of the GPU pipeline without a GPU: when frames are captured, when not and why. The results are those
of the CPU pipeline either way."""

from __future__ import annotations

import dataclasses

import pytest

from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.gpu import GpuPipeline
from tests.support.cuda_cpu.build import compiler
from tests.support.given_networks import (
    SIZES_HW,
    CpuNetwork,
    GivenNetwork,
    assert_same,
    both,
    given_sets,
    random_frames,
)

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++ to compile the kernels for the CPU")


@pytest.fixture(params=["peaks", "heads"])
def spec(request, small_spec):
    return dataclasses.replace(small_spec, graph_level=request.param)


def test_frames_of_one_size_are_one_graph_and_without_it_the_results_are_the_same(driver, cpu_kernels, spec):
    frames = random_frames(6, sizes=((90, 120),))
    found, expected, graph = both(driver, cpu_kernels, spec, frames)
    assert graph == "one CUDA graph per frame" and driver.made["graph"] == 1
    without, _, refused = both(driver, cpu_kernels, spec, frames, graphs=False)
    assert refused == "no CUDA graph: none was asked for" and driver.made["graph"] == 1
    for one, other, third in zip(found, expected, without, strict=True):
        assert_same(one, other)
        assert_same(third, other)


@pytest.mark.parametrize("slots", [1, 2])
def test_sizes_that_alternate_are_never_captured(driver, cpu_kernels, spec, slots):
    sizes = tuple(size for pair in (SIZES_HW[:2], SIZES_HW[2:]) for size in pair for _ in range(slots))
    found, expected, graph = both(driver, cpu_kernels, spec, random_frames(8, sizes=sizes), slots=slots)
    assert graph.startswith("no CUDA graph yet") and driver.made["graph"] == 0
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_a_frame_of_another_size_in_between_costs_no_new_capture(driver, cpu_kernels, spec):
    large, small = SIZES_HW[0], SIZES_HW[3]
    frames = random_frames(7, sizes=(large, large, large, small, large, small, large))
    found, expected, _ = both(driver, cpu_kernels, spec, frames)
    assert driver.made["graph"] == 1 and driver.launches["graph"] == 4  # the second, third, fifth and seventh
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_a_network_that_cannot_be_captured_is_named_as_the_reason(driver, cpu_kernels, small_spec):
    found, expected, graph = both(
        driver, cpu_kernels, small_spec, random_frames(4), refusal="it allocates while it runs"
    )
    assert graph == "no CUDA graph: it allocates while it runs" and driver.made["graph"] == 0
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_work_on_the_default_stream_is_not_captured(driver, cpu_kernels, small_spec):
    frames = random_frames(3)
    with GpuPipeline(
        driver, GivenNetwork(driver, small_spec, list(given_sets(small_spec, 1))), kernels=cpu_kernels, stream=0
    ) as pipeline:
        found = [pipeline(frame) for frame in frames]
        assert pipeline.graph == "no CUDA graph: CUDA captures no work on the default stream"
    cpu = Pipeline(CpuNetwork(small_spec, list(given_sets(small_spec, 1))))
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, cpu(frame))


def test_a_capture_that_fails_is_named_as_the_reason_and_the_frame_still_comes(driver, cpu_kernels, small_spec):
    network = GivenNetwork(driver, small_spec, list(given_sets(small_spec, 2)))
    plain, calls = network.enqueue, []

    def enqueue(images, outputs, stream):
        calls.append(stream)
        if len(calls) == 2:
            raise DriverError("cuMemAlloc failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.")
        plain(images, outputs, stream)

    network.enqueue = enqueue
    frames = random_frames(3, sizes=SIZES_HW[:1])
    with GpuPipeline(driver, network, kernels=cpu_kernels) as pipeline:
        found = [pipeline(frame) for frame in frames]
        assert pipeline.graph.startswith("no CUDA graph: the capture failed: cuMemAlloc failed")
    cpu = Pipeline(CpuNetwork(small_spec, list(given_sets(small_spec, 2))))
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, cpu(frame))

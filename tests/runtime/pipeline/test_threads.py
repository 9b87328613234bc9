# SPDX-License-Identifier: Apache-2.0
"""A GPU pipeline that several callers use at once: each gets the results of its own frames, or one sentence."""

from __future__ import annotations

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.gpu import GpuPipeline
from tests.support.cuda_cpu.build import compiler
from tests.support.given_networks import (
    SIZES_HW,
    GivenNetwork,
    SeeingCpuNetwork,
    SeeingNetwork,
    assert_same,
    given_sets,
    random_frames,
)

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++ to compile the kernels for the CPU")


@pytest.fixture
def frames():
    """Of several sizes, each of another brightness."""
    return [frame // 3 + np.uint8(8 * index) for index, frame in enumerate(random_frames(16))]


@pytest.fixture
def arrays(small_spec):
    return next(given_sets(small_spec, 1))


@pytest.fixture
def expected(small_spec, arrays, frames):
    cpu = Pipeline(SeeingCpuNetwork(small_spec, arrays))
    return [cpu(frame) for frame in frames]


@pytest.fixture
def restless():
    """Threads take turns in the middle of everything."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize(("slots", "batch"), [(1, 1), (2, 1), (3, 4)])
def test_threads_get_the_results_of_their_own_frames(
    driver, cpu_kernels, small_spec, arrays, frames, expected, slots, batch
):
    inside = threading.Lock()
    launch = driver.driver.launch

    def alone(*arguments):
        assert inside.acquire(blocking=False), "two threads put work at once"
        try:
            launch(*arguments)
        finally:
            inside.release()

    driver.driver.launch = alone

    def work(number):
        order = np.random.default_rng(number).permutation(len(frames)).tolist()
        shown = [frames[place] for place in order]
        ways = (lambda: map(pipeline, shown), lambda: pipeline.each(shown), lambda: pipeline.many(shown))
        for place, found in zip(order, ways[number % 3](), strict=True):
            assert_same(found, expected[place])
        return len(order)

    network = SeeingNetwork(driver, small_spec, arrays, batch)
    with (
        GpuPipeline(driver, network, kernels=cpu_kernels, slots=slots) as pipeline,
        ThreadPoolExecutor(6) as threads,
    ):
        assert sum(threads.map(work, range(6))) == 6 * len(frames)


@pytest.mark.parametrize("slots", [1, 2])
def test_calls_while_frames_are_under_way_are_right_and_so_are_these(
    driver, cpu_kernels, small_spec, arrays, frames, expected, slots
):
    network = SeeingNetwork(driver, small_spec, arrays)
    with GpuPipeline(driver, network, kernels=cpu_kernels, slots=slots) as pipeline, ThreadPoolExecutor(1) as other:
        streams = [pipeline.each(frames), pipeline.each(reversed(frames))]
        for place, (found, backwards) in enumerate(zip(*streams, strict=True)):
            assert_same(found, expected[place])
            assert_same(backwards, expected[-1 - place])
            assert_same(pipeline(frames[place - 5]), expected[place - 5])
            assert_same(other.submit(pipeline, frames[place - 3]).result(), expected[place - 3])


def test_results_that_nobody_takes_hold_no_slot(driver, cpu_kernels, small_spec, arrays, frames, expected):
    with GpuPipeline(driver, SeeingNetwork(driver, small_spec, arrays), kernels=cpu_kernels) as pipeline:
        forgotten = [pipeline.each(frames) for _ in range(5)]
        for results in forgotten:
            next(results)
        assert_same(pipeline(frames[0]), expected[0])
        for place, found in enumerate(forgotten[2], 1):  # taken up again after all
            assert_same(found, expected[place])


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("kind", ["no frame", "a source that fails"])
def test_all_results_before_an_error_of_the_frames_come_first(
    driver, cpu_kernels, small_spec, arrays, frames, expected, slots, kind
):
    def source():
        yield from frames[:6]
        if kind == "no frame":
            yield np.zeros((4, 4), np.uint8)
        raise DataError("The video is damaged.")

    found = []
    with GpuPipeline(driver, SeeingNetwork(driver, small_spec, arrays), kernels=cpu_kernels, slots=slots) as pipeline:
        with pytest.raises(DataError, match="uint8" if kind == "no frame" else "damaged"):
            for one in pipeline.each(source()):
                found.append(one)
        assert_same(pipeline(frames[7]), expected[7])
    for one, other in zip(found, expected[:6], strict=True):
        assert_same(one, other)


def test_a_closed_pipeline_says_so(driver, cpu_kernels, small_spec, arrays, frames):
    network = GivenNetwork(driver, small_spec, [arrays])
    with GpuPipeline(driver, network, kernels=cpu_kernels) as pipeline:
        results = pipeline.each(itertools.cycle(frames))
        next(results)
    pipeline.close()
    for use in (
        lambda: pipeline(frames[0]),
        lambda: pipeline.timed(frames[0]),
        lambda: pipeline.many(frames[:2]),
        lambda: next(pipeline.each(frames)),
        lambda: next(pipeline.drawn(frames)),
        lambda: next(results),
    ):
        with pytest.raises(UsageError, match=r"^The pipeline is closed: open the model again"):
            use()
    assert network.closed


def test_frames_of_one_size_become_a_graph_after_two_calls(driver, cpu_kernels, small_spec, arrays):
    """Single calls always take the same slot, however many there are."""
    frames = random_frames(4, sizes=SIZES_HW[:1])
    with GpuPipeline(driver, SeeingNetwork(driver, small_spec, arrays), kernels=cpu_kernels, slots=3) as pipeline:
        for frame in frames:
            pipeline(frame)
    assert driver.made["graph"] == 1 and driver.launches["graph"] == 3

# SPDX-License-Identifier: Apache-2.0
"""The driver that stands in for a GPU promises no more than one: order, memory, argument types and capture."""

from __future__ import annotations

import numpy as np
import pytest

from centermask_runtime.cuda.driver import DriverError
from tests.support.cuda_cpu.cpu_driver import POISON, CpuDriver


@pytest.fixture
def driver():
    driver = CpuDriver()
    yield driver
    driver.close()


@pytest.fixture
def buffer(driver):
    pointer = driver.allocate(64)
    yield pointer
    driver.free(pointer)


def read(driver, pointer, count=4):
    host = np.zeros(count, np.uint8)
    driver.download(host, pointer, 0)
    driver.synchronize(0)
    return host.tolist()


def ones(value=1):
    return np.full(4, value, np.uint8)


def test_new_memory_is_poison(driver, buffer):
    assert read(driver, buffer) == [POISON] * 4


def test_nothing_runs_before_somebody_waits(driver, buffer):
    """So a host array that changes too early, or is read too early, shows."""
    stream, source = driver.create_stream(), ones()
    driver.upload(buffer, source, stream)
    source[:] = 9
    host = np.zeros(4, np.uint8)
    driver.download(host, buffer, stream)
    assert not host.any()
    driver.synchronize(stream)
    assert host.tolist() == [9] * 4


def test_streams_are_ordered_by_events_alone(driver, buffer):
    writer, reader, event = driver.create_stream(), driver.create_stream(), driver.create_event()
    early, late = np.zeros(4, np.uint8), np.zeros(4, np.uint8)
    source = ones(5)
    driver.upload(buffer, source, writer)
    driver.record(event, writer)
    driver.download(early, buffer, reader)
    driver.wait(reader, event)
    driver.download(late, buffer, reader)
    driver.synchronize(reader)
    assert early.tolist() == [POISON] * 4 and late.tolist() == [5] * 4


def test_a_wait_is_for_the_recording_before_it(driver, buffer):
    writer, reader, event = driver.create_stream(), driver.create_stream(), driver.create_event()
    first, second, host = ones(1), ones(2), np.zeros(4, np.uint8)
    driver.upload(buffer, first, writer)
    driver.record(event, writer)
    driver.wait(reader, event)
    driver.download(host, buffer, reader)
    driver.upload(buffer, second, writer)
    driver.record(event, writer)
    driver.synchronize(reader)
    assert host.tolist() == [1] * 4
    driver.synchronize(writer)


def test_time_between_events_is_known_when_both_have_passed(driver):
    stream, start, end = driver.create_stream(), driver.create_event(), driver.create_event()
    driver.record(start, stream)
    driver.record(end, stream)
    with pytest.raises(DriverError, match="NOT_READY"):
        driver.elapsed_ms(start, end)
    driver.synchronize(stream)
    assert driver.elapsed_ms(start, end) >= 0


def test_a_graph_is_what_was_put_on_the_stream_and_runs_when_it_is_launched(driver, buffer):
    stream, source = driver.create_stream(), ones(3)
    driver.begin_capture(stream)
    driver.upload(buffer, source, stream)
    graph = driver.end_capture(stream)
    driver.synchronize(stream)
    assert read(driver, buffer) == [POISON] * 4
    for value in (3, 4):
        source[:] = value
        driver.launch_graph(graph, stream)
        driver.synchronize(stream)
        assert read(driver, buffer) == [value] * 4


def test_a_second_stream_joins_a_capture_and_must_come_back(driver, buffer):
    stream, other = driver.create_stream(), driver.create_stream()
    forked, joined = driver.create_event(), driver.create_event()
    for comes_back in (True, False):
        driver.begin_capture(stream)
        driver.record(forked, stream)
        driver.wait(other, forked)
        driver.fill(buffer, 7, 4, other)
        if not comes_back:
            with pytest.raises(DriverError, match="UNJOINED"):
                driver.end_capture(stream)
            continue
        driver.record(joined, other)
        driver.wait(stream, joined)
        driver.launch_graph(driver.end_capture(stream), stream)
        driver.synchronize(stream)
        assert read(driver, buffer) == [7] * 4


@pytest.mark.parametrize("call", ["allocate", "synchronize"])
def test_what_cuda_forbids_during_a_capture_is_an_error(driver, call):
    stream = driver.create_stream()
    driver.begin_capture(stream)
    with pytest.raises(DriverError, match="CAPTURE"):
        driver.allocate(4) if call == "allocate" else driver.synchronize(stream)
    driver.end_capture(stream)


def test_copies_beyond_an_allocation_are_errors(driver, buffer):
    with pytest.raises(DriverError, match="not in device memory"):
        driver.upload(buffer + 61, ones(), 0)
    with pytest.raises(DriverError, match="not in device memory"):
        driver.fill(buffer, 0, 65, 0)


def test_memory_is_freed_once(driver):
    pointer = driver.allocate(16)
    assert driver.allocated == {pointer: 16}
    driver.free(pointer)
    assert not driver.allocated
    with pytest.raises(DriverError):
        driver.free(pointer)


def test_arguments_must_have_the_parameters_names_and_types_in_their_order(driver, buffer, cpu_kernels):
    function = driver.function(driver.load_module(cpu_kernels), "saliency_probabilities")
    right = {"logits": np.uint64(buffer), "cells": np.int64(4), "probabilities": np.uint64(buffer)}
    launch = (1, 1, 1), (32, 1, 1), 0, 0
    driver.upload(buffer, np.zeros(4, np.float32), 0)
    driver.launch(function, *launch, right)
    assert np.array(read(driver, buffer, 16), np.uint8).view(np.float32).tolist() == [0.5] * 4
    for wrong in (
        right | {"cells": np.int32(4)},
        {name: right[name] for name in ("logits", "cells")},
        right | {"more": np.int32(0)},
        right | {"logits": np.uint64(buffer + 64)},
        {name: right[name] for name in ("probabilities", "cells", "logits")},
        {"cells": np.int64(4), **right},
    ):
        with pytest.raises(DriverError):
            driver.launch(function, *launch, wrong)


def test_a_launch_that_no_gpu_takes_is_an_error(driver, buffer, cpu_kernels):
    function = driver.function(driver.load_module(cpu_kernels), "saliency_probabilities")
    arguments = {"logits": np.uint64(buffer), "cells": np.int64(0), "probabilities": np.uint64(buffer)}
    for grid, block, shared in (
        ((1, 70_000, 1), (32, 1, 1), 0),
        ((1, 1, 1), (2048, 1, 1), 0),
        ((1, 1, 1), (32, 1, 1), 50_000),
    ):
        driver.launch(function, grid, block, shared, 0, arguments)
        with pytest.raises(DriverError, match="invalid configuration"):
            driver.synchronize(0)
    driver.launch(function, (0, 1, 1), (32, 1, 1), 0, 0, arguments)
    driver.synchronize(0)


def test_a_kernel_that_is_not_there_is_an_error(driver, cpu_kernels):
    with pytest.raises(DriverError, match="NOT_FOUND"):
        driver.function(driver.load_module(cpu_kernels), "no_such_kernel")

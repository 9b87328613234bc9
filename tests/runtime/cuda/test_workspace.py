# SPDX-License-Identifier: Apache-2.0
"""A model's device memory: made when it is asked for, as large as the layouts say, and all given back."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from centermask_runtime.cuda import layouts, workspace
from centermask_runtime.cuda.compile import CompileError
from centermask_runtime.cuda.workspace import Workspace
from centermask_runtime.networks.gpu_network import as_network
from tests.support.cuda_cpu.build import compiler
from tests.support.given_networks import GivenNetwork, given_sets, peak_outputs

needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs g++ to compile the kernels for the CPU")


@pytest.fixture
def no_kernels(monkeypatch):
    def none(capability):
        raise CompileError("There are no kernels here.")

    monkeypatch.setattr(workspace, "kernel_image", none)


@pytest.mark.parametrize("batch", [1, 4])
def test_each_part_is_made_once_when_it_is_asked_for_and_all_are_given_back(driver, small_spec, batch):
    with Workspace(driver, small_spec, batch=batch) as space:
        assert driver.made["memory"] == 0
        assert space.images == space.images and space.outputs.pointer == space.outputs.pointer
        space.room(100)
        expected = layouts.images_bytes(small_spec, batch) + layouts.outputs_layout(small_spec, batch).nbytes + 100
        assert driver.made["memory"] == 3 and driver.live_bytes["memory"] == expected
    space.close()
    assert not any(driver.live.values())


@pytest.mark.parametrize(("classes", "expected"), [(None, [1, 1, 1]), ((), [0, 0, 0]), ((2, 0), [1, 0, 1])])
def test_classes_are_allowed_on_the_device(driver, small_spec, classes, expected):
    with Workspace(driver, small_spec) as space:
        space.allow(classes)
        found = np.empty(3, np.uint8)
        driver.download(found, space.allowed, 0)
        driver.synchronize(0)
    assert found.tolist() == expected


@needs_compiler
def test_what_a_pipeline_needs_is_made_before_the_first_frame(driver, cpu_kernels, small_spec):
    with Workspace(driver, dataclasses.replace(small_spec, graph_level="heads"), cpu_kernels) as space:
        space.prepare(None)
        before = dict(driver.made)
        assert space.images and space.outputs_by_name and space.peaks and space.probabilities and space.allowed
        assert space.stages is space.stages and dict(driver.made) == before and before["module"] == 1


@pytest.mark.usefixtures("no_kernels")
def test_a_network_that_finds_its_peaks_itself_runs_where_no_kernels_are(driver, small_spec):
    (arrays,) = given_sets(small_spec, 1)
    stream = driver.create_stream()
    with as_network(driver, GivenNetwork(driver, small_spec, [arrays]), stream) as network:
        found = network.run(np.zeros((1, *small_spec.input_hw, 3), np.uint8))
    driver.destroy_stream(stream)
    np.testing.assert_array_equal(found.boxes, peak_outputs(small_spec, arrays).boxes)


@pytest.mark.usefixtures("no_kernels")
def test_missing_kernels_are_said_when_they_are_needed_and_nothing_stays(driver, small_spec):
    heads = dataclasses.replace(small_spec, graph_level="heads")
    network = GivenNetwork(driver, heads, [])
    with pytest.raises(CompileError, match="no kernels here"):
        as_network(driver, network, 0)
    assert network.closed and not any(driver.live.values())

# SPDX-License-Identifier: Apache-2.0
"""The driver layer. cuda-bindings itself runs here, on a stub of libcuda that executes the kernels' CPU build."""

from __future__ import annotations

import ctypes
import importlib.util
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask_runtime.cuda.counted_driver import CountedDriver
from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.cuda.providers import open_driver
from centermask_runtime.errors import UsageError
from tests.support.cuda_cpu.build import compiler
from tests.support.cuda_stub.build import build, run_python

has_bindings = importlib.util.find_spec("cuda") is not None and importlib.util.find_spec("cuda.bindings") is not None
needs_bindings = pytest.mark.skipif(not has_bindings, reason="needs cuda-bindings: pip install 'centermask[cuda]'")
needs_stub = pytest.mark.skipif(compiler() is None or not has_bindings, reason="needs g++ and cuda-bindings")

# Every driver function that a pipeline calls, and what calls it; `d` is a driver, `s` a stream, `p` memory.
CALLS = {
    "cuInit": "open_driver('cuda-bindings')",
    "cuDeviceGetCount": "open_driver('cuda-bindings')",
    "cuDevicePrimaryCtxRetain": "open_driver('cuda-bindings')",
    "cuCtxSetCurrent": "d.synchronize(s)",
    "cuMemAlloc": "d.allocate(4)",
    "cuMemFree": "d.free(p)",
    "cuMemHostAlloc": "d.allocate_pinned(4)",
    "cuMemFreeHost": "d.free_pinned(h)",
    "cuMemcpyHtoDAsync": "d.upload(p, a, s)",
    "cuMemcpyDtoHAsync": "d.download(a, p, s)",
    "cuMemsetD8Async": "d.fill(p, 0, 4, s)",
    "cuModuleLoadData": "d.load_module(image)",
    "cuModuleUnload": "d.unload_module(m)",
    "cuModuleGetFunction": "d.function(m, 'find_peaks')",
    "cuLaunchKernel": "d.launch(f, (1, 1, 1), (32, 1, 1), 0, s, work)",
    "cuStreamCreate": "d.create_stream()",
    "cuStreamDestroy": "d.destroy_stream(s)",
    "cuStreamSynchronize": "d.synchronize(s)",
    "cuStreamWaitEvent": "d.wait(s, e)",
    "cuEventCreate": "d.create_event()",
    "cuEventDestroy": "d.destroy_event(e)",
    "cuEventRecord": "d.record(e, s)",
    "cuEventElapsedTime": "d.elapsed_ms(e, e)",
    "cuStreamBeginCapture": "d.begin_capture(s)",
    "cuGraphLaunch": "d.launch_graph(g, s)",
    "cuGraphExecDestroy": "d.destroy_graph(g)",
}
SETUP = """
import json, os
import numpy as np
from centermask_runtime.cuda.providers import open_driver
from centermask_runtime.cuda.driver import DriverError
image = os.environ["KERNELS"].encode() + b"\\0"
d = open_driver("cuda-bindings", 1)
s, e, p = d.create_stream(), d.create_event(), d.allocate(64)
h, m = d.allocate_pinned(64), d.load_module(image)
f = d.function(m, "saliency_probabilities")
a = np.linspace(-4, 4, 16, dtype=np.float32)
work = {"logits": np.uint64(p), "cells": np.int64(16), "probabilities": np.uint64(p)}
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    return build(tmp_path_factory.mktemp("stub"))


@pytest.fixture(scope="module")
def kernels(cpu_kernels, tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "kernels.so"
    path.write_bytes(cpu_kernels)
    return path


@pytest.mark.process
@needs_stub
def test_importing_the_driver_layer_calls_no_driver_function(stub, tmp_path):
    log = tmp_path / "log"
    modules = "bindings_driver, compile, counted_driver, facts, providers, pycuda_driver, workspace"
    imports = f"from centermask_runtime.cuda import {modules}\nimport centermask_runtime.pipeline.gpu\n"
    run_python(stub, imports, STUB_LOG=str(log))
    assert not log.exists()
    run_python(stub, imports + "providers.open_driver('cuda-bindings')", STUB_LOG=str(log))
    assert "cuDevicePrimaryCtxRetain" in log.read_text().split()


@pytest.mark.process
@needs_stub
def test_memory_kernels_events_and_a_captured_graph_through_cuda_bindings(stub, kernels):
    from centermask_runtime.reference.sigmoid import sigmoid

    script = (
        SETUP
        + """
assert d.name == f"cuda-bindings {__import__('cuda.bindings').bindings.__version__} on Stub GPU 1", d.name
assert d.compute_capability == (9, 0)
def put(into):
    d.upload(p, a, s); d.launch(f, (1, 1, 1), (32, 1, 1), 0, s, work); d.download(into, p, s)
direct, captured = np.zeros_like(a), np.zeros_like(a)
put(direct)
d.launch(f, (0, 1, 1), (32, 1, 1), 0, s, work)  # no launch at all
d.begin_capture(s); put(captured); g = d.end_capture(s)
assert not captured.any()
d.launch_graph(g, s); d.synchronize(s)
assert (direct == captured).all()
d.record(e, s); d.wait(s, e)
assert d.elapsed_ms(e, e) == 1.5
h[:] = 7
assert int(h.sum()) == 64 * 7
bytes_ = np.zeros(64, np.uint8); d.fill(p, 5, 64, s); d.download(bytes_, p, s)
assert (bytes_ == 5).all()
live = d.live
d.close(); d.close()
import ctypes
print(json.dumps({"values": direct.tolist(), "live": live, "left": ctypes.CDLL("libcuda.so.1").stub_live()}))
"""
    )
    found = json.loads(run_python(stub, script, KERNELS=str(kernels)))
    expected = sigmoid(np.linspace(-4, 4, 16, dtype=np.float32))
    np.testing.assert_array_equal(np.array(found["values"], np.float32), expected)
    assert found["live"] == dict.fromkeys(("memory", "pinned", "module", "stream", "event", "graph"), 1)
    assert found["left"] == 0


@pytest.mark.process
@needs_stub
def test_a_driver_that_is_too_old_is_named(stub, kernels):
    """A function that libcuda does not export: the stub lacks graph debugging, as old drivers lack newer functions."""
    script = (
        SETUP
        + """
try:
    d.driver._do("cuGraphDebugDotPrint", 0, b"", 0)
except DriverError as error:
    print(error)
"""
    )
    said = run_python(stub, script, KERNELS=str(kernels))
    assert said.startswith("cuGraphDebugDotPrint is not in this NVIDIA driver (") and "update the driver" in said


@pytest.mark.process
@needs_stub
def test_every_failing_call_is_an_error_with_its_name_and_status(stub, kernels):
    script = (
        SETUP
        + f"""
d.begin_capture(s); g = d.end_capture(s)
missed = []
for name, call in {CALLS!r}.items():
    os.environ["STUB_FAIL"] = name
    try:
        eval(call)
        missed.append(f"{{name}}: no error")
    except DriverError as error:
        if str(error) != f"{{name}} failed with CUDA_ERROR_OUT_OF_MEMORY (out of memory).":
            missed.append(f"{{name}}: {{error}}")
    del os.environ["STUB_FAIL"]
    if name in ("cuMemFree", "cuMemFreeHost", "cuModuleUnload", "cuStreamDestroy", "cuEventDestroy"):
        p, h, s = d.allocate(64), d.allocate_pinned(64), d.create_stream()
        e, m = d.create_event(), d.load_module(image)
try:
    open_driver("cuda-bindings", 2)
    missed.append("a device that is not there")
except DriverError as error:
    if str(error) != "CUDA device 2 was asked for, but this machine has 2, counted from 0.":
        missed.append(str(error))
print(json.dumps(missed))
"""
    )
    assert json.loads(run_python(stub, script, KERNELS=str(kernels))) == []


@pytest.mark.process
@needs_stub
def test_the_whole_pipeline_runs_through_cuda_bindings(stub, kernels):
    script = (
        SETUP
        + """
import ctypes
import dataclasses
from centermask_runtime.pipeline.gpu import GpuPipeline
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.spec import ModelSpec
from tests.support.given_networks import CpuNetwork, UploadedNetwork, assert_same, given_sets, random_frames

spec = ModelSpec("small", ("cat", "dog"), (1, 2), (64, 96), (0.4,) * 3, (0.3,) * 3, shape_size=8, saliency_channels=2,
                 max_detections=8)
for level in ("peaks", "heads"):
    leveled = dataclasses.replace(spec, graph_level=level)
    arrays = next(given_sets(leveled, 1))
    frames = random_frames(5, sizes=((97, 61),))
    cpu = Pipeline(CpuNetwork(leveled, [arrays]))
    for slots in (1, 2):
        before = d.live
        with GpuPipeline(d, UploadedNetwork(d, leveled, arrays), kernels=image, slots=slots) as pipeline:
            for found, frame in zip(pipeline.each(frames), frames, strict=True):
                assert_same(found, cpu(frame))
                assert len(found)
            assert pipeline.graph == "one CUDA graph per frame"
        assert d.live == before
d.close()
print(ctypes.CDLL("libcuda.so.1").stub_live())
"""
    )
    assert run_python(stub, script, KERNELS=str(kernels)).strip() == "0"


@needs_bindings
@given(
    st.lists(
        st.one_of(
            st.integers(-(2**31), 2**31 - 1).map(np.int32),
            st.integers(0, 2**32 - 1).map(np.uint32),
            st.integers(-(2**63), 2**63 - 1).map(np.int64),
            st.integers(0, 2**64 - 1).map(np.uint64),
            st.floats(width=32).map(np.float32),
            st.floats().map(np.float64),
        )
    )
)
def test_each_packed_argument_lies_at_its_address_with_its_own_bytes(arguments):
    from centermask_runtime.cuda.bindings_driver import pack_arguments

    values, addresses = pack_arguments(arguments)
    assert len(addresses) == len(arguments) and values.nbytes == 8 * len(arguments)
    for argument, address in zip(arguments, addresses.tolist(), strict=True):
        assert ctypes.string_at(address, argument.nbytes) == argument.tobytes()


def test_an_unknown_provider_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="no CUDA driver provider 'cupy'; known are: auto, cuda-bindings, pycuda"):
        open_driver("cupy")


@needs_bindings
def test_without_a_gpu_there_is_one_sentence():
    try:
        open_driver("cuda-bindings").close()
    except DriverError as error:
        assert str(error).startswith("A GPU was asked for, but") and "\n" not in str(error)
    else:
        pytest.skip("this machine has a GPU")


class PlainDriver:
    """Hands out numbers, and remembers what came back."""

    name, compute_capability, supports_graphs = "plain", (9, 0), True

    def __init__(self):
        self.number, self.freed, self.closed = 0, [], False

    def __getattr__(self, name):
        if name == "allocate_pinned":
            return lambda nbytes: np.zeros(nbytes, np.uint8)
        if name.startswith(("allocate", "create", "load", "end_capture")):
            return self._next
        return lambda *arguments: self.freed.append(name)

    def _next(self, *arguments):
        self.number += 1
        return self.number

    def close(self):
        self.closed = True


def test_what_is_handed_out_is_counted_and_freed_at_the_end():
    plain = PlainDriver()
    driver = CountedDriver(plain)
    first, _ = driver.allocate(100), driver.allocate(28)
    pinned = driver.allocate_pinned(10)
    stream = driver.create_stream()
    driver.create_event(), driver.load_module(b""), driver.end_capture(stream)
    assert driver.live == {"memory": 2, "pinned": 1, "module": 1, "stream": 1, "event": 1, "graph": 1}
    assert driver.live_bytes == {"memory": 128, "pinned": 10}
    driver.free(first), driver.free_pinned(pinned)
    assert driver.live_bytes == {"memory": 28, "pinned": 0} and driver.made["memory"] == 2
    with pytest.raises(AssertionError, match="not handed out"):
        driver.free(first)
    driver.close()
    assert not any(driver.live.values()) and plain.closed
    assert plain.freed == [
        "free", "free_pinned", "destroy_graph", "destroy_event", "destroy_stream", "unload_module", "free",
    ]  # fmt: skip

# SPDX-License-Identifier: Apache-2.0
"""The pipeline on a real GPU. Each test has its twin on the CPU build (pipeline/test_gpu.py, pipeline/test_slots.py,
test_driver.py)."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from centermask_runtime.cuda.compile import kernel_image
from centermask_runtime.cuda.facts import gpus
from centermask_runtime.cuda.providers import PROVIDERS, installed_providers, open_driver
from centermask_runtime.errors import ModelError
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.gpu import GpuPipeline
from centermask_runtime.selection import Selection
from tests.support.given_networks import RUNS_HW, CpuNetwork, UploadedNetwork, assert_same, given_sets, random_frames

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not gpus(), reason="needs an NVIDIA GPU and its driver")]
LONG_RUN = 10_000  # frames


@pytest.fixture(scope="module", params=PROVIDERS)
def gpu(request):
    if request.param not in installed_providers():
        pytest.skip(f"needs {request.param}")
    driver = open_driver(request.param)
    yield driver
    live = driver.live
    driver.close()
    assert not any(live.values()), f"not given back: {live}"


@pytest.fixture(params=["peaks", "heads"])
def spec(request, small_spec):
    return dataclasses.replace(small_spec, graph_level=request.param)


@pytest.mark.parametrize("slots", [1, 2])
def test_every_frame_equals_the_cpu_pipeline(gpu, spec, slots):
    arrays = next(given_sets(spec, 1))
    frames = random_frames(12, sizes=RUNS_HW)
    cpu = Pipeline(CpuNetwork(spec, [arrays]))
    with GpuPipeline(gpu, UploadedNetwork(gpu, spec, arrays), slots=slots) as pipeline:
        for found, frame in zip(pipeline.each(frames), frames, strict=True):
            assert_same(found, cpu(frame))
        assert pipeline.graph == "one CUDA graph per frame" if gpu.supports_graphs else "has none" in pipeline.graph


def test_a_long_run_allocates_nothing(gpu, spec):
    frames = itertools.cycle(random_frames(4, sizes=((64, 96),)))
    with GpuPipeline(gpu, UploadedNetwork(gpu, spec, next(given_sets(spec, 1))), slots=2) as pipeline:
        results = pipeline.each(itertools.islice(frames, LONG_RUN))
        for _ in itertools.islice(results, 8):
            pass
        before = dict(gpu.made), gpu.live, gpu.live_bytes
        assert sum(1 for _ in results) == LONG_RUN - 8
        assert (dict(gpu.made), gpu.live, gpu.live_bytes) == before


def test_it_works_on_a_stream_of_torch_beside_torch(gpu, small_spec):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available() or "pycuda" in gpu.name:
        pytest.skip("needs torch with CUDA, and cuda-bindings")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        held = torch.arange(1000, device="cuda").square()
    arrays = next(given_sets(small_spec, 1))
    frame = random_frames(1)[0]
    network = UploadedNetwork(gpu, small_spec, arrays)
    with GpuPipeline(gpu, network, stream=stream.cuda_stream) as pipeline:
        for _ in range(3):
            assert_same(pipeline(frame), Pipeline(CpuNetwork(small_spec, [arrays]))(frame))
    assert int(held.sum()) == sum(number**2 for number in range(1000))


def test_onnx_runtime_runs_on_the_gpu_or_says_why_not(gpu, small_spec, small_outputs, tmp_path):
    onnx = pytest.importorskip("onnx")
    from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
    from centermask_runtime.networks.onnx_runtime_gpu import OnnxRuntimeGpuNetwork
    from tests.runtime.networks.test_onnx_runtime import tiny_graph

    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_graph(small_spec, small_outputs), path)
    stream = gpu.create_stream()
    try:
        network = OnnxRuntimeGpuNetwork(path, stream)
    except ModelError as error:
        gpu.destroy_stream(stream)
        pytest.skip(str(error))
    frames = [frame // 2 + 100 for frame in random_frames(4)]
    selection = Selection.of(small_spec, conf=0.05)
    cpu = Pipeline(OnnxRuntimeNetwork(path, threads=1), selection)
    with GpuPipeline(gpu, network, selection, stream=stream) as pipeline:
        for frame in frames:
            found, expected = pipeline(frame), cpu(frame)
            assert len(found) == len(expected) and found.scores == pytest.approx(expected.scores, abs=1e-5)
    gpu.destroy_stream(stream)


def test_the_kernels_load_from_code_for_this_gpu(gpu):
    image = kernel_image(gpu.compute_capability)
    gpu.unload_module(gpu.load_module(image.code))

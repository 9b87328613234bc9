# SPDX-License-Identifier: Apache-2.0
"""The whole GPU pipeline without a GPU: real kernels compiled for the CPU, on a driver that keeps only what streams and
events promise, and a network that ONNX Runtime computes in the same memory. Equal to the CPU pipeline, bit for bit."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from centermask_runtime.cuda import providers, workspace
from centermask_runtime.cuda.compile import KernelImage
from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.cuda.frame_slot import FrameSlot
from centermask_runtime.cuda.layouts import outputs_layout
from centermask_runtime.errors import DataError
from centermask_runtime.images import read_image
from centermask_runtime.networks import opening
from centermask_runtime.networks.onnx_runtime import CPU
from centermask_runtime.networks.onnx_runtime_gpu import OnnxRuntimeGpuNetwork
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.gpu import GpuPipeline
from centermask_runtime.reference.nv12 import Nv12Frame, YuvMatrix
from centermask_runtime.reference.overlay import DrawStyle, draw
from tests.support.cuda_cpu.build import compiler
from tests.support.given_networks import (
    RUNS_HW,
    SIZES_HW,
    CpuNetwork,
    GivenNetwork,
    OnStream,
    SeeingCpuNetwork,
    SeeingNetwork,
    assert_same,
    both,
    given_sets,
    host_array,
    peak_outputs,
    random_frames,
)
from tests.support.places import NUCLEI, ROOT

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++ to compile the kernels for the CPU")


@pytest.fixture(params=["peaks", "heads"])
def spec(request, small_spec):
    return dataclasses.replace(small_spec, graph_level=request.param)


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_every_frame_equals_the_cpu_pipeline(driver, cpu_kernels, spec, slots):
    frames = random_frames(12, sizes=RUNS_HW)
    found, expected, graph = both(driver, cpu_kernels, spec, frames, slots=slots)
    assert sum(map(len, expected)) > 20 and graph == "one CUDA graph per frame"
    assert driver.made["graph"] == 2 * slots  # one for each size and slot
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    "selection",
    [
        {"conf": 0.6},
        {"mask_threshold": 0.1, "conf": 0.0},
        {"max_det": 2},
        {"classes": ["dog", 2]},
        {"conf": 1.0},
    ],
)
def test_selection_is_that_of_the_cpu_pipeline(driver, cpu_kernels, spec, selection):
    found, expected, _ = both(driver, cpu_kernels, spec, random_frames(3), **selection)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_two_videos_take_turns_on_one_driver(driver, cpu_kernels, small_spec):
    specs = small_spec, dataclasses.replace(small_spec, graph_level="heads")
    frames = random_frames(6)
    sets = [list(given_sets(spec, 3)) for spec in specs]
    pipelines = [
        GpuPipeline(driver, GivenNetwork(driver, s, a), kernels=cpu_kernels, slots=2)
        for s, a in zip(specs, sets, strict=True)
    ]
    found = list(zip(*(pipeline.each(iter(frames)) for pipeline in pipelines), strict=True))
    for pipeline in pipelines:
        pipeline.close()
        pipeline.close()
    for index, (spec, arrays) in enumerate(zip(specs, sets, strict=True)):
        cpu = Pipeline(CpuNetwork(spec, arrays))
        for one, frame in zip(found, frames, strict=True):
            assert_same(one[index], cpu(frame))


def test_stage_times_are_filled_where_asked_for(driver, cpu_kernels, small_spec):
    network = GivenNetwork(driver, small_spec, list(given_sets(small_spec, 1)))
    with GpuPipeline(driver, network, kernels=cpu_kernels, stage_times=True) as pipeline:
        found, times = pipeline.timed(random_frames(1)[0])
        assert len(found)
        assert pipeline.graph == "no CUDA graph: times inside a graph cannot be taken, and stage times were asked for"
    assert min(times.preprocess_ms, times.network_ms, times.postprocess_ms) > 0
    assert times.total_ms >= times.preprocess_ms + times.network_ms + times.postprocess_ms


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("matrix", YuvMatrix)
def test_nv12_frames_give_the_results_of_the_converted_ones(driver, cpu_kernels, small_spec, matrix, slots):
    """Among BGR frames of the same size, which have CUDA graphs of their own."""
    rng = np.random.default_rng(4)
    nv12 = [Nv12Frame(rng.integers(0, 200, (195, 194), dtype=np.uint8), matrix) for _ in range(4 * slots)]
    frames = [*nv12, *random_frames(2 * slots, sizes=((130, 194),)), *nv12]
    arrays = next(given_sets(small_spec, 1))
    with GpuPipeline(driver, SeeingNetwork(driver, small_spec, arrays), kernels=cpu_kernels, slots=slots) as pipeline:
        found = list(pipeline.each(frames))
    cpu = Pipeline(SeeingCpuNetwork(small_spec, arrays))
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, cpu(frame))
        assert_same(one, cpu(frame.to_bgr() if isinstance(frame, Nv12Frame) else frame))
    assert driver.launches["graph"] > 0


@pytest.mark.parametrize(("slots", "batch"), [(1, 1), (2, 1), (2, 3)])
def test_run_lengths_come_ready_for_coco_results(driver, cpu_kernels, spec, slots, batch, monkeypatch):
    """Of noise, whose masks have so many that their room grows while the frames are under way."""
    noisy = dataclasses.replace(spec, mask_threshold=0.5, shape_size=32)
    rng = np.random.default_rng(8)
    first, *rest, shapes, saliency = next(given_sets(noisy, 1))
    arrays = first, *rest, rng.choice(np.array([-9, 9], np.float32), shapes.shape), np.full_like(saliency, 9)
    frames = random_frames(5, sizes=(SIZES_HW[3],) * 4 + (SIZES_HW[0],))
    grown, has_grown = [], FrameSlot.has_grown
    monkeypatch.setattr(FrameSlot, "has_grown", lambda slot: grown.append(has_grown(slot)) or grown[-1])
    with GpuPipeline(
        driver, SeeingNetwork(driver, noisy, arrays, batch), kernels=cpu_kernels, slots=slots, run_lengths=True
    ) as pipeline:
        found = [*pipeline.each(frames), pipeline(frames[0])]
    cpu = Pipeline(SeeingCpuNetwork(noisy, arrays))
    assert sum(map(len, found)) > 5 and any(grown)
    for one, frame in zip(found, [*frames, frames[0]], strict=True):
        expected = cpu(frame)
        assert_same(one, expected)
        assert expected.masks.runs is None and one.masks.runs is not None and len(one.masks.runs) == len(one)
        assert one.to_coco(3) == expected.to_coco(3)


def test_nobody_counts_runs_unasked(driver, cpu_kernels, small_spec):
    arrays = next(given_sets(small_spec, 1))
    with GpuPipeline(driver, SeeingNetwork(driver, small_spec, arrays), kernels=cpu_kernels) as pipeline:
        found = pipeline(random_frames(1)[0])
    assert len(found) and found.masks.runs is None


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize(
    "style", [DrawStyle(), DrawStyle(labels=False), DrawStyle(masks=False), DrawStyle(boxes=False, scores=False)]
)
@pytest.mark.parametrize("batch", [1, 3])
def test_drawn_pictures_are_those_of_the_cpu(driver, cpu_kernels, spec, slots, style, batch):
    frames = random_frames(6, sizes=(SIZES_HW[0],) * 4 + (SIZES_HW[1],) * 2)
    frames.append(Nv12Frame(np.random.default_rng(6).integers(0, 200, (96, 96), dtype=np.uint8)))
    before = [frame.copy() for frame in frames[:-1]]
    arrays = next(given_sets(spec, 1))
    with GpuPipeline(driver, SeeingNetwork(driver, spec, arrays, batch), kernels=cpu_kernels, slots=slots) as pipeline:
        found = list(pipeline.drawn(frames, style))
    cpu = Pipeline(SeeingCpuNetwork(spec, arrays))
    assert len(found) == len(frames)
    for (instances, picture), frame in zip(found, frames, strict=True):
        expected = cpu(frame)
        assert_same(instances, expected)
        bgr = frame.to_bgr() if isinstance(frame, Nv12Frame) else frame
        np.testing.assert_array_equal(picture, draw(bgr, expected, style))
        assert (picture != bgr).any()
    for frame, kept in zip(frames[:-1], before, strict=True):
        np.testing.assert_array_equal(frame, kept)


def test_a_model_of_one_class_is_drawn_in_the_colours_of_places(driver, cpu_kernels, small_spec):
    one_class = dataclasses.replace(small_spec, class_names=("nucleus",), category_ids=(1,), saliency_channels=1)
    frames = random_frames(3, sizes=((128, 192),))
    sets = list(given_sets(one_class, 3))
    with GpuPipeline(driver, GivenNetwork(driver, one_class, sets), kernels=cpu_kernels) as pipeline:
        found = list(pipeline.drawn(frames))
    for (instances, picture), frame in zip(found, frames, strict=True):
        np.testing.assert_array_equal(picture, draw(frame, instances))


def test_a_frame_of_another_kind_is_refused_and_the_next_one_comes(driver, cpu_kernels, small_spec):
    arrays = list(given_sets(small_spec, 1))
    with GpuPipeline(driver, GivenNetwork(driver, small_spec, arrays), kernels=cpu_kernels) as pipeline:
        with pytest.raises(DataError, match="uint8"):
            pipeline(np.zeros((4, 4), np.uint8))
        frame = random_frames(1)[0]
        assert_same(pipeline(frame), Pipeline(CpuNetwork(small_spec, arrays))(frame))


def test_a_failing_network_leaves_the_pipeline_usable(driver, cpu_kernels, small_spec):
    arrays = list(given_sets(small_spec, 1))
    network = GivenNetwork(driver, small_spec, arrays)
    plain = network.enqueue

    def enqueue(images, outputs, stream):
        raise DriverError("cuLaunchKernel failed with CUDA_ERROR_LAUNCH_FAILED.")

    network.enqueue = enqueue
    frame = random_frames(1)[0]
    with GpuPipeline(driver, network, kernels=cpu_kernels) as pipeline:
        with pytest.raises(DriverError, match="LAUNCH_FAILED"):
            pipeline(frame)
        network.enqueue = plain
        assert_same(pipeline(frame), Pipeline(CpuNetwork(small_spec, arrays))(frame))


def test_the_example_of_the_docs_runs(driver, cpu_kernels, small_spec, monkeypatch, capsys):
    """With the CPU build in the place of a GPU and its engine."""
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "gpu.md").read_text(), re.DOTALL)
    arrays, close = next(given_sets(small_spec, 1)), driver.close
    monkeypatch.setattr(providers, "open_driver", lambda: driver)
    monkeypatch.setattr(driver, "close", lambda: None)  # the fixture looks at it first
    monkeypatch.setattr(workspace, "kernel_image", lambda capability: KernelImage(cpu_kernels, "CPU build"))
    monkeypatch.setattr(opening, "open_gpu_network", lambda *given: SeeingNetwork(driver, small_spec, arrays, 2))
    monkeypatch.chdir(ROOT)
    exec(compile(example, "docs/gpu.md", "exec"), {})
    driver.close = close
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6 and printed[-1] == str(read_image("samples/images/fluorescence.png").shape)
    assert printed[0].split(maxsplit=1)[1].startswith("no CUDA graph yet")


class TorchOnHost:
    """The model itself in the place of a session; images and outputs lie at host addresses."""

    def __init__(self, model, spec):
        self.model, self.spec = model, spec

    def enqueue(self, images, outputs, stream):
        import torch

        pixels = host_array(images, np.empty((1, *self.spec.input_hw, 3), np.uint8))
        with torch.no_grad():
            found = getattr(self.model, self.spec.graph_level)(torch.from_numpy(pixels))
        for name, tensor in zip(outputs, found, strict=True):
            host_array(outputs[name], tensor.numpy())[:] = tensor.numpy()

    def close(self):
        pass


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Graph level -> what makes the released model at a small size: exported, and PyTorch's dense heads."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from centermask.model.weights import load_weights
    from centermask.opening import find_model
    from centermask_export.options import ExportOptions
    from centermask_export.to_onnx import export_onnx

    model, spec, _ = load_weights(find_model("nuclei_dla_46c"))
    path = tmp_path_factory.mktemp("onnx") / "peaks.onnx"
    export_onnx(model, spec, path, ExportOptions(imgsz=(128, 160)))
    heads = dataclasses.replace(spec, input_hw=(128, 160), graph_level="heads")
    return {
        "peaks": lambda: OnnxRuntimeGpuNetwork(path, 0, provider=CPU),
        "heads": lambda: TorchOnHost(model.eval(), heads),
    }


@pytest.mark.slow
@pytest.mark.parametrize("level", ["peaks", "heads"])
def test_the_released_model_finds_the_same_nuclei_as_on_the_cpu(driver, cpu_kernels, released, level):
    frames = [read_image(path) for path in sorted((NUCLEI / "val").glob("*.png"))[:4]]
    truth = released[level]()
    layout = outputs_layout(truth.spec, 1)

    class Direct:
        """The same network outside the pipeline."""

        spec, description, batch = truth.spec, "direct", 1

        def run(self, images):
            arrays = [np.empty(field.shape, field.dtype) for field in layout.fields.values()]
            truth.enqueue(images.ctypes.data, {n: a.ctypes.data for n, a in zip(layout.fields, arrays, strict=True)}, 0)
            return peak_outputs(truth.spec, arrays)

        def close(self):
            truth.close()

    cpu = Pipeline(Direct())
    with GpuPipeline(driver, OnStream(driver, released[level]()), kernels=cpu_kernels, slots=2) as pipeline:
        found = list(pipeline.each(frames))
    expected = [cpu(frame) for frame in frames]
    assert sum(map(len, expected)) > 20
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)

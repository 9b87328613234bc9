# SPDX-License-Identifier: Apache-2.0
"""The whole GPU pipeline without a GPU: real kernels compiled for the CPU, on a driver that keeps only what streams and
events promise, and a network that ONNX Runtime computes in the same memory. Equal to the CPU pipeline, bit for bit."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import os
from pathlib import Path

import numpy as np
import pytest

from centermask_runtime.cuda.counted_driver import CountedDriver
from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.gpu_pipeline import GpuPipeline
from centermask_runtime.images import read_image
from centermask_runtime.networks.gpu_network import outputs_layout
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.networks.onnx_runtime import CPU
from centermask_runtime.networks.onnx_runtime_gpu import OnnxRuntimeGpuNetwork
from centermask_runtime.pipeline import Pipeline
from centermask_runtime.reference.peaks import decode_boxes, top_peaks
from tests.cuda_cpu.build import compiler
from tests.cuda_cpu.cpu_driver import CpuDriver

NUCLEI = Path(__file__).parent / "data" / "nuclei"
SIZES_HW = ((128, 192), (97, 61), (40, 300), (64, 96))
RUNS_HW = (SIZES_HW[0],) * 6 + (SIZES_HW[1],) * 6  # two frames of a size in a row for each of up to three slots
FLAT_FRAMES = int(os.environ.get("CENTERMASK_LONG_RUN", "200"))  # of 64 x 96; docs/gpu.md: run with 10,000

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs g++ to compile the kernels for the CPU")


@pytest.fixture(scope="module")
def kernels(cpu_kernels) -> bytes:
    return cpu_kernels


@pytest.fixture
def driver():
    counted = CountedDriver(CpuDriver())
    yield counted
    live = counted.live
    counted.close()
    assert not any(live.values()), f"not given back: {live}"


class GivenNetwork:
    """A GpuNetwork that writes given arrays when the stream gets there; from one set of arrays to the next."""

    description, batch, stream = "given", 1, None

    def __init__(self, driver, spec, sets, refusal=None):
        self.spec, self.refusal, self.closed = spec, refusal, False
        self.device, self.sets = driver.driver, itertools.cycle(sets)
        self.layout = outputs_layout(spec, 1)

    def enqueue(self, images, outputs, stream):
        block = {name: np.zeros(field.shape, field.dtype) for name, field in self.layout.fields.items()}

        def compute():
            for name, array in zip(block, next(self.sets), strict=True):
                block[name][:] = array
                _host(outputs[name], block[name])[:] = block[name]

        self.device._put(stream, compute)

    def capture_refusal(self, stream):
        return self.refusal

    def close(self):
        self.closed = True


class UploadedNetwork:
    """A GpuNetwork that writes the same arrays each time, by copies: for any driver."""

    description, batch, stream = "uploaded", 1, None

    def __init__(self, driver, spec, arrays):
        self.driver, self.spec = driver, spec
        # page-locked: what a CUDA graph does with copies of other memory is not documented
        self.arrays = [driver.allocate_pinned(array.nbytes) for array in arrays]
        for pinned, array in zip(self.arrays, arrays, strict=True):
            pinned[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def enqueue(self, images, outputs, stream):
        for pointer, array in zip(outputs.values(), self.arrays, strict=True):
            self.driver.upload(pointer, array, stream)

    def capture_refusal(self, stream):
        return None

    def close(self):
        while self.arrays:
            self.driver.free_pinned(self.arrays.pop())


class OnStream:
    """OnnxRuntimeGpuNetwork on the CPU works when it is called; here it is called when the stream gets there."""

    batch, stream, description = 1, None, "ONNX Runtime on the CPU driver's stream"

    def __init__(self, driver, network):
        self.device, self.network, self.spec = driver.driver, network, network.spec

    def enqueue(self, images, outputs, stream):
        addresses = dict(outputs)
        self.device._put(stream, lambda: self.network.enqueue(images, addresses, stream))

    def capture_refusal(self, stream):
        return None

    def close(self):
        self.network.close()


def _host(pointer, like):
    return (
        np.ctypeslib.as_array((ctypes.c_uint8 * like.nbytes).from_address(pointer)).view(like.dtype).reshape(like.shape)
    )


class CpuNetwork:
    """A Network with the same sets of outputs, dense heads going through the reference."""

    description = "given"

    def __init__(self, spec, sets):
        self.spec, self.sets = spec, itertools.cycle(sets)

    def run(self, images):
        return peak_outputs(self.spec, next(self.sets))

    def close(self):
        pass


def peak_outputs(spec, arrays):
    if spec.graph_level == "peaks":
        return PeakOutputs(*arrays)
    heatmap, offsets, sizes, shapes, saliency = (array[0] for array in arrays)
    peaks = top_peaks(heatmap, spec.max_detections)
    y, x = peaks.cells_yx.T
    boxes = decode_boxes(peaks.cells_yx, offsets[:, y, x].T, sizes[:, y, x].T, spec.stride)
    crops = shapes[:, y, x].T.reshape(-1, spec.shape_size, spec.shape_size)
    return PeakOutputs(
        peaks.scores[None], peaks.labels[None], boxes[None], np.ascontiguousarray(crops)[None], saliency[None]
    )


def given_sets(spec, count, seed=3):
    """Outputs of a network for so many frames."""
    rng = np.random.default_rng(seed)
    layout = outputs_layout(spec, 1)
    k = spec.max_detections
    for _ in range(count):
        arrays = {name: rng.normal(0, 2, field.shape).astype(field.dtype) for name, field in layout.fields.items()}
        if spec.graph_level == "peaks":
            arrays["scores"] = -np.sort(-rng.uniform(0, 0.95, (1, k)).astype(np.float32))
            arrays["labels"] = rng.integers(0, spec.num_classes, (1, k), dtype=np.int32)
            centres = rng.uniform(-5, (spec.input_hw[1] + 5, spec.input_hw[0] + 5), (1, k, 2))
            halves = rng.uniform(0, 30, (1, k, 2))
            arrays["boxes"] = np.concatenate((centres - halves, centres + halves), 2).astype(np.float32)
        else:
            arrays["sizes"] = arrays["sizes"] * 4
        yield tuple(arrays.values())


def random_frames(count, seed=5, sizes=SIZES_HW):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*sizes[i % len(sizes)], 3), dtype=np.uint8) for i in range(count)]


def assert_same(found, expected):
    assert len(found) == len(expected)
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.masks.rects, expected.masks.rects)
    for one, other in zip(found.masks.packed, expected.masks.packed, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (found.frame_hw, found.class_names) == (expected.frame_hw, expected.class_names)


@pytest.fixture(params=["peaks", "heads"])
def spec(request, small_spec):
    return dataclasses.replace(small_spec, graph_level=request.param)


def both(driver, kernels, spec, frames, *, sets=4, slots=1, refusal=None, graphs=True, **selection):
    """Results of the GPU pipeline and of the CPU pipeline for the same frames and network outputs, and `graph`."""
    arrays = list(given_sets(spec, sets))
    network = GivenNetwork(driver, spec, arrays, refusal)
    with GpuPipeline(driver, network, kernels=kernels, slots=slots, graphs=graphs, **selection) as pipeline:
        found = list(pipeline.stream(frames))
        graph = pipeline.graph
    assert network.closed
    cpu = Pipeline(CpuNetwork(spec, arrays), **selection)
    return found, [cpu(frame) for frame in frames], graph


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_every_frame_equals_the_cpu_pipeline(driver, kernels, spec, slots):
    frames = random_frames(12, sizes=RUNS_HW)
    found, expected, graph = both(driver, kernels, spec, frames, slots=slots)
    assert sum(map(len, expected)) > 20 and graph == "one CUDA graph a frame"
    assert driver.made["graph"] == 2 * slots  # one for each size and slot
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    "selection",
    [
        {"score_threshold": 0.6},
        {"mask_threshold": 0.1, "score_threshold": 0.0},
        {"max_detections": 2},
        {"classes": ["dog", 2]},
        {"classes": []},
        {"score_threshold": 1.0},
    ],
)
def test_selection_is_that_of_the_cpu_pipeline(driver, kernels, spec, selection):
    found, expected, _ = both(driver, kernels, spec, random_frames(3), **selection)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_frames_of_one_size_are_one_graph_and_without_it_the_results_are_the_same(driver, kernels, spec):
    frames = random_frames(6, sizes=((90, 120),))
    found, expected, graph = both(driver, kernels, spec, frames)
    assert graph == "one CUDA graph a frame" and driver.made["graph"] == 1
    without, _, refused = both(driver, kernels, spec, frames, graphs=False)
    assert refused == "no CUDA graph: none was asked for" and driver.made["graph"] == 1
    for one, other, third in zip(found, expected, without, strict=True):
        assert_same(one, other)
        assert_same(third, other)


@pytest.mark.parametrize("slots", [1, 2])
def test_sizes_that_alternate_are_never_captured(driver, kernels, spec, slots):
    sizes = tuple(size for pair in (SIZES_HW[:2], SIZES_HW[2:]) for size in pair for _ in range(slots))
    found, expected, graph = both(driver, kernels, spec, random_frames(8, sizes=sizes), slots=slots)
    assert graph.startswith("no CUDA graph yet") and driver.made["graph"] == 0
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_a_frame_of_another_size_in_between_costs_no_new_capture(driver, kernels, spec):
    large, small = SIZES_HW[0], SIZES_HW[3]
    frames = random_frames(7, sizes=(large, large, large, small, large, small, large))
    launched, launch = [], driver.launch_graph
    driver.launch_graph = lambda graph, stream: (launched.append(graph), launch(graph, stream))
    found, expected, _ = both(driver, kernels, spec, frames)
    assert driver.made["graph"] == 1 and len(launched) == 4  # the second, third, fifth and seventh
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_a_network_that_cannot_be_captured_is_named_as_the_reason(driver, kernels, small_spec):
    found, expected, graph = both(driver, kernels, small_spec, random_frames(4), refusal="it allocates while it runs")
    assert graph == "no CUDA graph: it allocates while it runs" and driver.made["graph"] == 0
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_work_on_the_default_stream_is_not_captured(driver, kernels, small_spec):
    frames = random_frames(3)
    with GpuPipeline(
        driver, GivenNetwork(driver, small_spec, list(given_sets(small_spec, 1))), kernels=kernels, stream=0
    ) as pipeline:
        found = [pipeline(frame) for frame in frames]
        assert pipeline.graph == "no CUDA graph: CUDA captures no work on the default stream"
    cpu = Pipeline(CpuNetwork(small_spec, list(given_sets(small_spec, 1))))
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, cpu(frame))


def test_a_capture_that_fails_is_named_as_the_reason_and_the_frame_still_comes(driver, kernels, small_spec):
    network = GivenNetwork(driver, small_spec, list(given_sets(small_spec, 2)))
    plain, calls = network.enqueue, []

    def enqueue(images, outputs, stream):
        calls.append(stream)
        if len(calls) == 2:
            raise DriverError("cuMemAlloc failed with CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.")
        plain(images, outputs, stream)

    network.enqueue = enqueue
    frames = random_frames(3, sizes=SIZES_HW[:1])
    with GpuPipeline(driver, network, kernels=kernels) as pipeline:
        found = [pipeline(frame) for frame in frames]
        assert pipeline.graph.startswith("no CUDA graph: the capture failed: cuMemAlloc failed")
    cpu = Pipeline(CpuNetwork(small_spec, list(given_sets(small_spec, 2))))
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, cpu(frame))


def test_masks_larger_than_the_first_arena_make_it_grow_once(driver, kernels, small_spec):
    spec = small_spec
    k, size = spec.max_detections, spec.shape_size
    whole = np.tile(np.array([0, 0, 96, 64], np.float32), (1, k, 1))
    full = (
        np.linspace(0.9, 0.5, k, dtype=np.float32)[None], np.zeros((1, k), np.int32), whole,
        np.full((1, k, size, size), 5, np.float32), np.full((1, spec.saliency_channels, *spec.grid_hw), 5, np.float32),
    )  # fmt: skip
    frames = random_frames(5, sizes=((128, 192),))
    for slots in (1, 2):
        with GpuPipeline(driver, GivenNetwork(driver, spec, [full]), kernels=kernels, slots=slots) as pipeline:
            found = []
            counts = []
            for instances in pipeline.stream(frames):
                found.append(instances)
                counts.append(driver.made["memory"])
        cpu = Pipeline(CpuNetwork(spec, [full]))
        for one, frame in zip(found, frames, strict=True):
            assert_same(one, cpu(frame))
        assert len(found[0]) == k and found[0].masks.areas().tolist() == [128 * 192] * k
        assert counts[-1] == counts[slots]


@pytest.mark.parametrize("compute_first", [False, True])
def test_a_frame_may_change_as_soon_as_it_is_submitted(driver, kernels, small_spec, compute_first):
    seen = []
    network = GivenNetwork(driver, small_spec, list(given_sets(small_spec, 1)))
    plain = network.enqueue

    def enqueue(images, outputs, stream):
        shape = (*small_spec.input_hw, 3)
        driver.driver._put(stream, lambda: seen.append(_host(images, np.empty(shape, np.uint8)).copy()))
        plain(images, outputs, stream)

    network.enqueue = enqueue
    frame = np.zeros((64, 96, 3), np.uint8)
    stream = driver.create_stream()
    with GpuPipeline(driver, network, kernels=kernels, slots=2, stream=stream) as pipeline:
        for index, value in enumerate((10, 20, 30, 40)):
            if index >= 2:
                pipeline.result()
            frame[:] = value
            pipeline.submit(frame)
            frame[:] = 255
            if compute_first:
                driver.synchronize(stream)  # only an event makes it wait for the upload
        pipeline.result(), pipeline.result()
    driver.destroy_stream(stream)
    assert [image.min() for image in seen] == [image.max() for image in seen] == [10, 20, 30, 40]


def test_results_stay_when_later_frames_come(driver, kernels, small_spec):
    arrays = list(given_sets(small_spec, 5))
    frames = random_frames(5, sizes=((128, 192),))
    cpu = Pipeline(CpuNetwork(small_spec, arrays))
    with GpuPipeline(driver, GivenNetwork(driver, small_spec, arrays), kernels=kernels, slots=2) as pipeline:
        found = list(pipeline.stream(frames))
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, cpu(frame))


def test_two_videos_take_turns_on_one_driver(driver, kernels, small_spec):
    specs = small_spec, dataclasses.replace(small_spec, graph_level="heads")
    frames = random_frames(6)
    sets = [list(given_sets(spec, 3)) for spec in specs]
    pipelines = [
        GpuPipeline(driver, GivenNetwork(driver, s, a), kernels=kernels, slots=2)
        for s, a in zip(specs, sets, strict=True)
    ]
    found = list(zip(*(pipeline.stream(iter(frames)) for pipeline in pipelines), strict=True))
    for pipeline in pipelines:
        pipeline.close()
        pipeline.close()
    for index, (spec, arrays) in enumerate(zip(specs, sets, strict=True)):
        cpu = Pipeline(CpuNetwork(spec, arrays))
        for one, frame in zip(found, frames, strict=True):
            assert_same(one[index], cpu(frame))


def test_allocations_are_flat_over_a_long_run(driver, kernels, spec):
    frames = itertools.cycle(random_frames(4, sizes=((64, 96),)))
    network = GivenNetwork(driver, spec, list(given_sets(spec, 3)))
    with GpuPipeline(driver, network, kernels=kernels, slots=2) as pipeline:
        results = pipeline.stream(itertools.islice(frames, FLAT_FRAMES))
        for _ in itertools.islice(results, 8):
            pass
        made, live, size = dict(driver.made), driver.live, driver.live_bytes
        assert sum(1 for _ in results) == FLAT_FRAMES - 8
        assert (dict(driver.made), driver.live, driver.live_bytes) == (made, live, size)


def test_work_goes_on_the_stream_that_was_given_and_it_is_not_destroyed(driver, kernels, small_spec):
    stream = driver.create_stream()
    used = set()
    network = GivenNetwork(driver, small_spec, list(given_sets(small_spec, 1)))
    plain = network.enqueue
    network.enqueue = lambda images, outputs, on: (used.add(on), plain(images, outputs, on))
    with GpuPipeline(driver, network, kernels=kernels, stream=stream) as pipeline:
        pipeline(random_frames(1)[0])
    assert used == {stream} and driver.live["stream"] == 1
    driver.destroy_stream(stream)


def test_a_network_bound_to_another_stream_is_refused(driver, kernels, small_spec):
    network = GivenNetwork(driver, small_spec, [])
    network.stream = 5
    with pytest.raises(UsageError, match="another stream"):
        GpuPipeline(driver, network, kernels=kernels, stream=6)
    assert network.closed  # the pipeline's from the call on


def test_a_selection_that_is_refused_closes_the_network(driver, kernels, small_spec):
    network = GivenNetwork(driver, small_spec, [])
    with pytest.raises(UsageError):
        GpuPipeline(driver, network, kernels=kernels, classes=["no such class"])
    assert network.closed


@pytest.mark.parametrize("body_fails", [False, True])
def test_after_an_error_that_stays_everything_is_given_back_and_the_first_error_is_seen(
    kernels, small_spec, body_fails
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
        GpuPipeline(driver, network, kernels=kernels, slots=2) as pipeline,
    ):
        pipeline(random_frames(1)[0])
        driver.synchronize = broken("cuStreamSynchronize")
        driver.driver.free = failing_free
        if body_fails:
            broken("cuEventRecord")()
    assert network.closed and freed and not driver.driver.allocated
    pipeline.close()  # twice is once


def test_stage_times_are_filled_where_asked_for(driver, kernels, small_spec):
    network = GivenNetwork(driver, small_spec, list(given_sets(small_spec, 1)))
    with GpuPipeline(driver, network, kernels=kernels, stage_times=True) as pipeline:
        assert pipeline.timings is None
        pipeline(random_frames(1)[0])
        times = pipeline.timings
        assert pipeline.graph == "no CUDA graph: times inside a graph cannot be taken, and stage times were asked for"
    assert min(times.preprocess_ms, times.network_ms, times.postprocess_ms) > 0
    assert times.total_ms >= times.preprocess_ms + times.network_ms + times.postprocess_ms


def test_a_frame_of_another_kind_is_refused_and_the_next_one_comes(driver, kernels, small_spec):
    arrays = list(given_sets(small_spec, 1))
    with GpuPipeline(driver, GivenNetwork(driver, small_spec, arrays), kernels=kernels) as pipeline:
        with pytest.raises(DataError, match="uint8"):
            pipeline(np.zeros((4, 4), np.uint8))
        frame = random_frames(1)[0]
        assert_same(pipeline(frame), Pipeline(CpuNetwork(small_spec, arrays))(frame))


def test_a_failing_network_leaves_the_pipeline_usable(driver, kernels, small_spec):
    arrays = list(given_sets(small_spec, 1))
    network = GivenNetwork(driver, small_spec, arrays)
    plain = network.enqueue

    def enqueue(images, outputs, stream):
        raise DriverError("cuLaunchKernel failed with CUDA_ERROR_LAUNCH_FAILED.")

    network.enqueue = enqueue
    frame = random_frames(1)[0]
    with GpuPipeline(driver, network, kernels=kernels) as pipeline:
        with pytest.raises(DriverError, match="LAUNCH_FAILED"):
            pipeline(frame)
        network.enqueue = plain
        assert_same(pipeline(frame), Pipeline(CpuNetwork(small_spec, arrays))(frame))


def test_what_a_failed_construction_took_is_given_back(driver, kernels, small_spec):
    allocate, left = driver.driver.allocate, iter(range(4))

    def full(nbytes):
        if next(left, None) is None:
            raise DriverError("cuMemAlloc failed with CUDA_ERROR_OUT_OF_MEMORY (out of memory).")
        return allocate(nbytes)

    driver.driver.allocate = full
    network = GivenNetwork(driver, small_spec, [])
    with pytest.raises(DriverError, match="out of memory"):
        GpuPipeline(driver, network, kernels=kernels)
    assert not any(driver.live.values()) and network.closed


class TorchOnHost:
    """The model itself in the place of a session; images and outputs lie at host addresses."""

    def __init__(self, model, spec):
        self.model, self.spec = model, spec

    def enqueue(self, images, outputs, stream):
        import torch

        pixels = _host(images, np.empty((1, *self.spec.input_hw, 3), np.uint8))
        with torch.no_grad():
            found = getattr(self.model, self.spec.graph_level)(torch.from_numpy(pixels))
        for name, tensor in zip(outputs, found, strict=True):
            _host(outputs[name], tensor.numpy())[:] = tensor.numpy()

    def close(self):
        pass


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Graph level -> what makes the released model at a small size: exported, and PyTorch's dense heads."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from centermask.cli.options import find_model
    from centermask.model.weights import load_weights
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


@pytest.mark.parametrize("level", ["peaks", "heads"])
def test_the_released_model_finds_the_same_nuclei_as_on_the_cpu(driver, kernels, released, level):
    frames = [read_image(path) for path in sorted((NUCLEI / "val").glob("*.png"))[:4]]
    truth = released[level]()
    layout = outputs_layout(truth.spec, 1)

    class Direct:
        """The same network outside the pipeline."""

        spec, description = truth.spec, "direct"

        def run(self, images):
            arrays = [np.empty(field.shape, field.dtype) for field in layout.fields.values()]
            truth.enqueue(images.ctypes.data, {n: a.ctypes.data for n, a in zip(layout.fields, arrays, strict=True)}, 0)
            return peak_outputs(truth.spec, arrays)

        def close(self):
            truth.close()

    cpu = Pipeline(Direct())
    with GpuPipeline(driver, OnStream(driver, released[level]()), kernels=kernels, slots=2) as pipeline:
        found = list(pipeline.stream(frames))
    expected = [cpu(frame) for frame in frames]
    assert sum(map(len, expected)) > 20
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)

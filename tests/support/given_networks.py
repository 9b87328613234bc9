# SPDX-License-Identifier: Apache-2.0
"""Networks with given outputs for the GPU pipeline and for the CPU pipeline, frames for both, and equal results."""

from __future__ import annotations

import ctypes
import itertools
from typing import Any

import numpy as np

from centermask_runtime.cuda.counted_driver import CountedDriver
from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.cuda.layouts import outputs_layout
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.gpu import GpuPipeline
from centermask_runtime.reference.peaks import decode_boxes, top_peaks
from centermask_runtime.selection import Selection

SIZES_HW = ((128, 192), (97, 61), (40, 300), (64, 96))
RUNS_HW = (SIZES_HW[0],) * 6 + (SIZES_HW[1],) * 6  # two frames of a size in a row for each of up to three slots


def fill_memory_after(driver: CountedDriver, allocations: int) -> None:
    """All further ones fail, as on a GPU whose memory is full."""
    below: Any = driver.driver
    allocate, left = below.allocate, iter(range(allocations))

    def full(nbytes: int) -> int:
        if next(left, None) is None:
            raise DriverError("cuMemAlloc failed with CUDA_ERROR_OUT_OF_MEMORY (out of memory).")
        pointer: int = allocate(nbytes)
        return pointer

    below.allocate = full


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
                host_array(outputs[name], block[name])[:] = block[name]

        self.device.host_function(compute, stream)

    def capture_refusal(self, stream):
        return self.refusal

    def close(self):
        self.closed = True


class SeeingNetwork:
    """A GpuNetwork for any batch whose outputs tell what it was shown: given arrays, but each image's first output is
    multiplied by a factor of the image's brightness. `calls` counts its runs."""

    description, stream = "seeing", None

    def __init__(self, driver, spec, arrays, batch=1):
        self.device, self.spec, self.arrays, self.batch = driver.driver, spec, arrays, batch
        self.layout = outputs_layout(spec, batch)
        self.calls = 0

    def enqueue(self, images, outputs, stream):
        self.calls += 1
        shape = np.empty((self.batch, *self.spec.input_hw, 3), np.uint8)
        like = {name: np.empty(field.shape, field.dtype) for name, field in self.layout.fields.items()}

        def compute():
            seen = [seen_arrays(self.arrays, image) for image in host_array(images, shape)]
            for name, each in zip(like, zip(*seen, strict=True), strict=True):
                host_array(outputs[name], like[name])[:] = np.concatenate(each)

        self.device.host_function(compute, stream)

    def capture_refusal(self, stream):
        return None

    def close(self):
        pass


def seen_arrays(arrays, image):
    """The outputs of a network for one image, which it is shown."""
    first, *rest = arrays
    return first * np.float32(0.5 + image.mean() / 512), *rest


class SeeingCpuNetwork:
    """A Network that sees the same, one image at a time."""

    description, batch = "seeing", 1

    def __init__(self, spec, arrays):
        self.spec, self.arrays = spec, arrays

    def run(self, images):
        return peak_outputs(self.spec, seen_arrays(self.arrays, images[0]))

    def close(self):
        pass


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

    stream, description = None, "ONNX Runtime on the CPU driver's stream"

    def __init__(self, driver, network):
        self.device, self.network, self.spec = driver.driver, network, network.spec
        self.batch = getattr(network, "batch", 1)

    def enqueue(self, images, outputs, stream):
        addresses = dict(outputs)
        self.device.host_function(lambda: self.network.enqueue(images, addresses, stream), stream)

    def capture_refusal(self, stream):
        return None

    def close(self):
        self.network.close()


def host_array(pointer, like):
    return (
        np.ctypeslib.as_array((ctypes.c_uint8 * like.nbytes).from_address(pointer)).view(like.dtype).reshape(like.shape)
    )


class CpuNetwork:
    """A Network with the same sets of outputs, dense heads going through the reference."""

    description, batch = "given", 1

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


def both(driver, kernels, spec, frames, *, sets=4, slots=1, refusal=None, graphs=True, **selection):
    """Results of the GPU pipeline and of the CPU pipeline for the same frames and network outputs, and `graph`."""
    arrays = list(given_sets(spec, sets))
    network = GivenNetwork(driver, spec, arrays, refusal)
    chosen = Selection.of(spec, **selection)
    with GpuPipeline(driver, network, chosen, kernels=kernels, slots=slots, graphs=graphs) as pipeline:
        found = list(pipeline.each(frames))
        graph = pipeline.graph
    assert network.closed
    cpu = Pipeline(CpuNetwork(spec, arrays), chosen)
    return found, [cpu(frame) for frame in frames], graph

# SPDX-License-Identifier: Apache-2.0
"""Launches and kernels agree: each kernel gets its parameters by name, in order and with their types, and its block."""

from __future__ import annotations

import re

import numpy as np
import pytest

from centermask_runtime.cuda import kernels, layouts, stages
from centermask_runtime.cuda.buffers import Arena, Frames, HeadPointers, Nv12Frames, PeakPointers
from centermask_runtime.cuda.stages import Stages
from centermask_runtime.geometry import Letterbox
from tests.support.cuda_cpu.build import signatures
from tests.support.cuda_cpu.compare import letterbox_equals_reference, spec_of_grid
from tests.support.cuda_cpu.cpu_driver import CpuDriver

SOURCES = {name: (kernels.FOLDER / name).read_text() for name in kernels.SOURCES}
LETTERBOX = Letterbox.fit((46, 62), (64, 96))


class Launches:
    """A driver that remembers what is launched. Functions are their own names."""

    def __init__(self):
        self.grids, self.blocks, self.arguments = {}, {}, {}

    def load_module(self, image):
        return 1

    def unload_module(self, module):
        pass

    def function(self, module, name):
        return name

    def fill(self, pointer, value, nbytes, stream):
        pass

    def launch(self, function, grid, block, shared_bytes, stream, arguments):
        self.grids[function], self.blocks[function], self.arguments[function] = grid, block, dict(arguments)


def launch_all(spec, count) -> Launches:
    """Every stage once, for `count` images, with pointers that are nowhere."""
    driver = Launches()
    frames, arena, stream = Frames(1 << 20, 62 * 3, 46 * 62 * 3, count), Arena(2 << 20, 4096), 7
    results = layouts.results_layout(spec, count).at(3 << 20)
    peaks, heads = layouts.peaks_layout(spec, count).at(4 << 20), HeadPointers(*range(11, 16))
    with Stages(driver, b"", spec) as launched:
        launched.letterbox(frames, LETTERBOX, 5 << 20, stream)
        launched.letterbox_nv12(Nv12Frames(frames, frames), LETTERBOX, 5 << 20, stream)
        launched.top_peaks(heads.heatmap, peaks, count, stream, 0.25)
        outputs = launched.gather_heads(heads, peaks, count, stream)
        launched.select(outputs, LETTERBOX, results, count, stream, allowed=21, score_threshold=0.3, max_detections=5)
        launched.masks(outputs, LETTERBOX, results, arena, 22, count, stream, mask_threshold=0.4)
        launched.runs(LETTERBOX.frame_hw, results, arena, Arena(23, 1024), count, stream)
        launched.draw(frames, LETTERBOX.frame_hw, results, arena, 24, stream)
    assert outputs == PeakPointers(peaks["scores"], peaks["labels"], peaks["boxes"], peaks["shapes"], heads.saliency)
    return driver


@pytest.fixture
def launched(small_spec) -> Launches:
    return launch_all(small_spec, 2)


def test_every_kernel_gets_its_parameters_by_name_in_their_order_and_type(launched):
    declared = {kernel: parameters for text in SOURCES.values() for kernel, parameters in signatures(text).items()}
    assert launched.arguments.keys() == declared.keys()
    for kernel, parameters in declared.items():
        given = {name: argument.dtype for name, argument in launched.arguments[kernel].items()}
        assert list(given.items()) == list(parameters.items()), kernel


def test_a_signature_is_read_as_it_stands_in_the_source():
    """So that the test above compares with what a compiler sees: pointers, types and order."""
    (found,) = signatures(
        'extern "C" __global__ void __launch_bounds__(8 * 4) twist(\n'
        "    // inputs\n    const float* __restrict__ cells,  // [N, (any)]\n    int height, int width, u64 bytes,\n"
        "    // outputs\n    u8* __restrict__ out  // bits, as in (x, y)\n) {\n"
    ).items()
    kinds = {"cells": "u8", "height": "i4", "width": "i4", "bytes": "u8", "out": "u8"}
    assert found == ("twist", {name: np.dtype(kind) for name, kind in kinds.items()})


def test_frames_and_boxes_have_their_own_sides(launched):
    """Names alone do not tell height from width: values of sides that all differ do."""
    select, resize = launched.arguments["select_detections"], launched.arguments["letterbox_bgr"]
    assert (select["frame_h"], select["frame_w"]) == (46, 62) == (resize["frame_h"], resize["frame_w"])
    assert (resize["resized_h"], resize["resized_w"]) == LETTERBOX.resized_hw == (64, 86)
    assert (resize["left"], resize["top"]) == LETTERBOX.offset_xy == (5, 0) == (select["left"], select["top"])
    assert (resize["input_h"], resize["input_w"]) == (64, 96)
    assert (select["scale_x"], select["scale_y"]) == LETTERBOX.scale_xy
    masks = launched.arguments["assemble_masks"]
    assert (masks["height"], masks["width"], masks["channels"], masks["shape_size"]) == (16, 24, 3, 8)
    assert (masks["offset_x"], masks["offset_y"]) == (5, 0)


@pytest.mark.parametrize("cuda_device", ["gpu"], indirect=True)
def test_a_kernel_runs_on_a_gpu(cuda_device):
    """Skipped without one, and says so: all tests that take `cuda_device` then run on the CPU build alone."""
    assert not isinstance(cuda_device.driver, CpuDriver)
    frames = np.random.default_rng(1).integers(0, 256, (1, 30, 40, 3), dtype=np.uint8)
    letterbox_equals_reference(cuda_device, frames, spec_of_grid(3, (16, 24), 6))


@pytest.mark.parametrize("count", [1, 3])
def test_grids_grow_with_the_number_of_images(small_spec, count):
    grids = launch_all(small_spec, count).grids
    assert grids["letterbox_bgr"] == grids["letterbox_nv12"] == (3, 8, count)  # blocks of 32 x 8 pixels of 96 x 64
    assert grids["draw_instances"] == (2, 6, count)  # of 62 x 46
    assert grids["find_peaks"] == (2, 3, count)  # tiles of 24 x 16 cells, classes
    assert grids["rank_peaks"] == grids["select_detections"] == (count, 1, 1)
    assert grids["gather_heads"] == grids["count_runs"] == grids["write_runs"] == (8, count, 1)
    assert grids["assemble_masks"] == (stages.BLOCKS_PER_MASK, 8, count)
    assert grids["saliency_probabilities"] == (-(-count * 3 * 16 * 24 // 256), 1, 1)


def test_blocks_have_the_threads_that_the_kernels_count_on(launched):
    constants = {
        name: int(value) for text in SOURCES.values() for name, value in re.findall(r"\b([A-Z_]+) = (\d+)\b", text)
    }
    assert launched.blocks["find_peaks"] == (constants["TILE_W"], constants["TILE_H"], 1)
    assert launched.blocks["draw_instances"] == (constants["DRAW_W"], constants["DRAW_H"], 1)
    assert launched.blocks["select_detections"] == (constants["SELECT_THREADS"], 1, 1)
    assert launched.blocks["assemble_masks"] == (constants["MASK_THREADS"], 1, 1)
    assert launched.blocks["count_runs"] == launched.blocks["write_runs"] == (constants["RLE_THREADS"], 1, 1)
    assert stages.PEN_BITS == constants["PEN_BITS"]

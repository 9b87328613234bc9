# SPDX-License-Identifier: Apache-2.0
"""The stages of the GPU pipeline: each method puts one step of reference/ on a stream, on device memory of the caller.

Nothing here allocates, copies to the host or waits. What lies where is in layouts.py; frame geometry comes from
`Letterbox`, computed on the host in float64. N images, which may be fewer than the arrays have room for; from the
ModelSpec, C classes, K peaks, S x S local shapes, G saliency channels and h x w cells.

    method            kernels                              in -> out
    letterbox         letterbox_bgr                        frames u8 -> images u8 [N, H, W, 3]
    letterbox_nv12    letterbox_nv12                       luma and chroma planes u8 -> the same
    top_peaks         find_peaks, rank_peaks               heat map f32 [N, C, h, w] -> peaks: scores, labels, cells
    gather_heads      gather_heads                         dense heads and peaks -> peaks: boxes, shapes
    select            select_detections                    PeakPointers -> results: found, scores, boxes, offsets, ...
    masks             saliency_probabilities,              PeakPointers, results -> arena u8 [N, capacity]
                      assemble_masks
    runs              count_runs, write_runs               results, arena -> results: run_counts, run_offsets; runs u32
    draw              draw_instances                       results, arena -> frames u8, drawn upon

A frame of level `heads` goes through letterbox, network, top_peaks, gather_heads, select, masks; one of level `peaks`
skips top_peaks and gather_heads. Text labels are not drawn here: reference/overlay.py writes them on the host.

The masks of image n are crops as in BoxMasks, one behind the other in its part of the arena; crop i begins at byte
results.offsets[n, i]. results.mask_bytes[n] is what all of them need: when it is more than the capacity, the crops that
do not fit are not written, and the caller must come again with a larger arena. run_totals and runs likewise.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.cuda.buffers import (
    Arena,
    Block,
    Frames,
    HeadPointers,
    Nv12Frames,
    PeakPointers,
)
from centermask_runtime.cuda.driver import Argument, Dim3, Driver
from centermask_runtime.errors import UsageError
from centermask_runtime.geometry import PAD_VALUE, Letterbox
from centermask_runtime.reference.nv12 import YuvMatrix
from centermask_runtime.reference.overlay import ALPHA, PALETTE_BGR
from centermask_runtime.spec import ModelSpec

PIXEL_BLOCK = (32, 8, 1)  # threads: TILE_W x TILE_H of peaks.cu, DRAW_W x DRAW_H of overlay.cu
BLOCK = (256, 1, 1)  # threads: SELECT_THREADS and MASK_THREADS of masks.cu, RLE_THREADS of rle.cu
RANK_BLOCK = (512, 1, 1)
LARGEST_K = 4096  # keys of 8 bytes that are sorted in 32 KB of shared memory
LEAST_SORTED = 1024  # as many candidates are sorted at once; with more, the K best are searched first
LARGEST_S = 104  # S x S floats beside 4 KB of row taps in the 48 KB of shared memory that every device has
BLOCKS_PER_MASK = 16
PEN_BITS = 4  # of each half width in one 64-bit argument


class Stages(Closing):
    """The compiled kernels for one model, and how they are launched. Owns the module."""

    def __init__(self, driver: Driver, image: bytes, spec: ModelSpec) -> None:
        """image: all kernels as a fatbin, cubin or PTX for this driver. Raises UsageError when K or S is too large."""
        if spec.max_detections > LARGEST_K:
            raise UsageError(
                f"The model gives {spec.max_detections} detections per frame, and the CUDA kernels sort at most "
                f"{LARGEST_K}; export it with a smaller max_detections."
            )
        if spec.max_detections < 1 or spec.shape_size > LARGEST_S:
            raise UsageError(
                f"The CUDA kernels need at least one detection and local shapes up to {LARGEST_S} x {LARGEST_S}; the "
                f"model has {spec.max_detections} and {spec.shape_size} x {spec.shape_size}: use the CPU pipeline."
            )
        self.driver, self.spec = driver, spec
        self._module = driver.load_module(image)
        self._functions: dict[str, int] = {}

    def close(self) -> None:
        self.driver.unload_module(self._module)

    def letterbox(self, frames: Frames, letterbox: Letterbox, images: int, stream: int) -> None:
        """As reference/preprocess.py, bit for bit. images: device pointer, images_bytes() long."""
        self._launch(
            "letterbox_bgr", self._pixels(self.spec.input_hw, frames.count), PIXEL_BLOCK, 0, stream,
            frames=_pointer(frames.pointer), pitch=np.int64(frames.pitch), image_stride=np.int64(frames.image_stride),
            **self._resize(letterbox), images=_pointer(images),
        )  # fmt: skip

    def letterbox_nv12(
        self, frames: Nv12Frames, letterbox: Letterbox, images: int, stream: int, matrix: YuvMatrix = YuvMatrix.BT601
    ) -> None:
        """As reference/nv12.py and then reference/preprocess.py, bit for bit."""
        assert not any(side % 2 for side in letterbox.frame_hw), letterbox
        luma, chroma = frames
        from_luma, cr_to_red, cr_to_green, cb_to_green, cb_to_blue = map(np.int32, matrix.value)
        self._launch(
            "letterbox_nv12", self._pixels(self.spec.input_hw, luma.count), PIXEL_BLOCK, 0, stream,
            luma=_pointer(luma.pointer), luma_pitch=np.int64(luma.pitch), luma_stride=np.int64(luma.image_stride),
            chroma=_pointer(chroma.pointer), chroma_pitch=np.int64(chroma.pitch),
            chroma_stride=np.int64(chroma.image_stride), from_luma=from_luma, cr_to_red=cr_to_red,
            cr_to_green=cr_to_green, cb_to_green=cb_to_green, cb_to_blue=cb_to_blue,
            **self._resize(letterbox), images=_pointer(images),
        )  # fmt: skip

    def top_peaks(self, heatmap: int, peaks: Block, count: int, stream: int, least_score: float = 0.0) -> None:
        """As reference/peaks.py. Peaks below least_score are left out, which a later threshold would do anyway."""
        (height, width), classes, k = self.spec.grid_hw, self.spec.num_classes, self.spec.max_detections
        candidates = {
            "height": np.int32(height), "width": np.int32(width), "least_score": np.float32(least_score),
            "capacity": np.uint32(peaks.layout.fields["candidate_keys"].shape[1]),
        }  # fmt: skip
        self.driver.fill(peaks["candidate_counts"], 0, 4 * count, stream)
        tiles = _blocks(width, PIXEL_BLOCK[0]) * _blocks(height, PIXEL_BLOCK[1])
        self._launch(
            "find_peaks", (tiles, classes, count), PIXEL_BLOCK, 0, stream,
            heatmap=_pointer(heatmap), **candidates, **_pointers(peaks, "candidate_counts", "candidate_keys"),
        )  # fmt: skip
        sort_capacity = max(_power_of_two(k), LEAST_SORTED)
        self._launch(
            "rank_peaks", (count, 1, 1), RANK_BLOCK, 8 * sort_capacity, stream,
            **_pointers(peaks, "candidate_counts", "candidate_keys"), heatmap=_pointer(heatmap),
            classes=np.int32(classes), **candidates, k=np.int32(k), sort_capacity=np.int32(sort_capacity),
            **_pointers(peaks, "scores", "labels", "cells_yx"),
        )  # fmt: skip

    def gather_heads(self, heads: HeadPointers, peaks: Block, count: int, stream: int) -> PeakPointers:
        """Boxes and local shapes at the peaks; returns where a graph of level `peaks` would have put all that."""
        height, width = self.spec.grid_hw
        self._launch(
            "gather_heads", (self.spec.max_detections, count, 1), BLOCK, 0, stream,
            cells_yx=_pointer(peaks["cells_yx"]), offsets=_pointer(heads.offsets), sizes=_pointer(heads.sizes),
            dense_shapes=_pointer(heads.shapes), height=np.int32(height), width=np.int32(width),
            shape_cells=np.int32(self.spec.shape_size**2), stride=np.float32(self.spec.stride),
            **_pointers(peaks, "boxes", "shapes"),
        )  # fmt: skip
        return PeakPointers(peaks["scores"], peaks["labels"], peaks["boxes"], peaks["shapes"], heads.saliency)

    def select(
        self,
        outputs: PeakPointers,
        letterbox: Letterbox,
        results: Block,
        count: int,
        stream: int,
        *,
        allowed: int,
        score_threshold: float,
        max_detections: int,
    ) -> None:
        """Which detections are kept, as pipeline.postprocess. allowed: uint8 [C] on the device, 0 drops the class."""
        k = self.spec.max_detections
        (left, top), (scale_x, scale_y) = letterbox.offset_xy, letterbox.scale_xy
        self._launch(
            "select_detections", (count, 1, 1), BLOCK, 8 * _power_of_two(k), stream,
            scores=_pointer(outputs.scores), labels=_pointer(outputs.labels), input_boxes=_pointer(outputs.boxes),
            allowed=_pointer(allowed), k=np.int32(k), classes=np.int32(self.spec.num_classes),
            score_threshold=np.float32(score_threshold), max_detections=np.int32(max_detections),
            left=np.float64(left), top=np.float64(top), scale_x=np.float64(scale_x), scale_y=np.float64(scale_y),
            **_size(letterbox.frame_hw), **_pointers(results, "found", "mask_bytes"),
            kept_scores=_pointer(results["scores"]), kept_labels=_pointer(results["labels"]),
            **_pointers(results, "boxes", "rects", "offsets", "rows", "sampled_boxes"),
        )  # fmt: skip

    def masks(
        self,
        outputs: PeakPointers,
        letterbox: Letterbox,
        results: Block,
        arena: Arena,
        probabilities: int,
        count: int,
        stream: int,
        *,
        mask_threshold: float,
    ) -> None:
        """As reference/masks.py, bit for bit. probabilities: scratch, probabilities_bytes() long."""
        (height, width), size, channels = self.spec.grid_hw, self.spec.shape_size, self.spec.saliency_channels
        (scale_x, scale_y), (offset_x, offset_y) = letterbox.scale_xy, letterbox.offset_xy
        cells = count * channels * height * width
        self._launch(
            "saliency_probabilities", (_blocks(cells, BLOCK[0]), 1, 1), BLOCK, 0, stream,
            logits=_pointer(outputs.saliency), cells=np.int64(cells), probabilities=_pointer(probabilities),
        )  # fmt: skip
        self._launch(
            "assemble_masks", (BLOCKS_PER_MASK, self.spec.max_detections, count), BLOCK, 4 * size * size, stream,
            **_pointers(results, "found", "rows", "labels", "rects", "sampled_boxes", "offsets"),
            shapes=_pointer(outputs.shapes), probabilities=_pointer(probabilities), shape_size=np.int32(size),
            channels=np.int32(channels), height=np.int32(height), width=np.int32(width),
            scale_x=np.float32(scale_x), scale_y=np.float32(scale_y), offset_x=np.float32(offset_x),
            offset_y=np.float32(offset_y), stride=np.float32(self.spec.stride), threshold=np.float32(mask_threshold),
            arena_bytes=np.uint64(arena.capacity), arena=_pointer(arena.pointer),
        )  # fmt: skip

    def runs(
        self, frame_hw: tuple[int, int], results: Block, arena: Arena, runs: Arena, count: int, stream: int
    ) -> None:
        """COCO run lengths of the masks, as reference/rle.py before it writes them as a string."""
        assert frame_hw[0] * frame_hw[1] < 1 << 32, frame_hw
        grid = self.spec.max_detections, count, 1
        masks = {**_pointers(results, "found", "rects", "offsets"), "arena": _pointer(arena.pointer)}
        sizes = {"arena_bytes": np.uint64(arena.capacity), **_size(frame_hw)}
        run_counts = _pointer(results["run_counts"])
        self._launch("count_runs", grid, BLOCK, 0, stream, **masks, **sizes, run_counts=run_counts)
        self._launch(
            "write_runs", grid, BLOCK, 0, stream,
            **masks, run_counts=run_counts, **sizes, runs_capacity=np.uint64(runs.capacity),
            **_pointers(results, "run_offsets", "run_totals"), runs=_pointer(runs.pointer),
        )  # fmt: skip

    def draw(
        self,
        frames: Frames,
        frame_hw: tuple[int, int],
        results: Block,
        arena: Arena,
        palette: int,
        stream: int,
        *,
        numbers: int = 0,
        masks: bool = True,
        boxes: bool = True,
    ) -> None:
        """As reference/overlay.py without labels, onto the frames. palette: PALETTE on the device.

        numbers: int32 [N, K] on the device that choose the colours, such as colour_numbers of track ids; 0: by class
        where the model has several, else by place. Equal to OpenCV's bytes where its addWeighted is compiled with fused
        multiply-add, as on any x86 CPU with AVX2; elsewhere within one grey level.
        """
        if not numbers and self.spec.num_classes > 1:
            numbers = results["labels"]
        k = self.spec.max_detections
        radius, half_widths = pen(max(round(min(frame_hw) / 400), 1))
        self._launch(
            "draw_instances", self._pixels(frame_hw, frames.count), PIXEL_BLOCK, 4 * k, stream,
            **_pointers(results, "found", "rects", "boxes", "offsets"), arena=_pointer(arena.pointer),
            numbers=_pointer(numbers), palette=_pointer(palette), arena_bytes=np.uint64(arena.capacity),
            k=np.int32(k), palette_size=np.int32(len(PALETTE)), with_masks=np.int32(masks), with_boxes=np.int32(boxes),
            keep=np.float32(1 - ALPHA), tint=np.float32(ALPHA), pen_radius=np.int32(radius),
            pen_half_widths=np.uint64(half_widths), pitch=np.int64(frames.pitch),
            image_stride=np.int64(frames.image_stride), **_size(frame_hw), frames=_pointer(frames.pointer),
        )  # fmt: skip

    def _launch(
        self, name: str, grid: Dim3, block: Dim3, shared_bytes: int, stream: int, **arguments: Argument
    ) -> None:
        """arguments: the kernel's parameters by name and in its order."""
        if name not in self._functions:
            self._functions[name] = self.driver.function(self._module, name)
        self.driver.launch(self._functions[name], grid, block, shared_bytes, stream, arguments)

    def _pixels(self, size_hw: tuple[int, int], count: int) -> Dim3:
        return _blocks(size_hw[1], PIXEL_BLOCK[0]), _blocks(size_hw[0], PIXEL_BLOCK[1]), count

    def _resize(self, letterbox: Letterbox) -> dict[str, Argument]:
        """The geometry that both letterbox kernels take. The steps are computed as cv2.resize computes them."""
        assert letterbox.input_hw == self.spec.input_hw, (letterbox, self.spec.input_hw)
        (scale_x, scale_y), (left, top) = letterbox.scale_xy, letterbox.offset_xy
        return {
            **_size(letterbox.frame_hw), **_size(letterbox.resized_hw, "resized"), "left": np.int32(left),
            "top": np.int32(top), "step_x": np.float64(1 / scale_x), "step_y": np.float64(1 / scale_y),
            "pad": np.int32(PAD_VALUE), **_size(letterbox.input_hw, "input"),
        }  # fmt: skip


PALETTE: NDArray[np.uint8] = np.array(PALETTE_BGR, np.uint8)  # [colours, 3], what `draw` wants on the device


def pen(thickness: int) -> tuple[int, int]:
    """OpenCV's round pen: its radius, and how far it reaches at each distance from its middle, 4 bits per distance.

    OpenCV documents no shape, so the pen is read off a dot that it draws.
    """
    middle = thickness + 1
    dot = np.zeros((2 * middle + 1, 2 * middle + 1), np.uint8)
    cv2.rectangle(dot, (middle, middle), (middle, middle), 1, thickness)
    half_widths = [int(np.flatnonzero(row)[-1]) - middle for row in dot[middle:] if row.any()]
    assert len(half_widths) <= 64 // PEN_BITS and max(half_widths) < 1 << PEN_BITS, (thickness, half_widths)
    return len(half_widths) - 1, sum(width << (PEN_BITS * distance) for distance, width in enumerate(half_widths))


def _pointer(address: int) -> np.uint64:
    return np.uint64(address)


def _pointers(block: Block, *names: str) -> dict[str, Argument]:
    """Arrays of a block that the kernel's parameters are named after."""
    return {name: np.uint64(block[name]) for name in names}


def _size(size_hw: tuple[int, int], what: str = "frame") -> dict[str, Argument]:
    return {f"{what}_h": np.int32(size_hw[0]), f"{what}_w": np.int32(size_hw[1])}


def _blocks(count: int, each: int) -> int:
    return -(-count // each)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()

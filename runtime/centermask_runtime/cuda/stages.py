# SPDX-License-Identifier: Apache-2.0
"""The stages of the GPU pipeline: each method puts one step of reference/ on a stream, on device memory of the caller.

Nothing here allocates, copies to the host or waits. Sizes and orders are in the layouts; frame geometry comes from
`Letterbox`, computed on the host in float64. N images, C classes, K peaks, S x S local shapes, G saliency channels,
h x w cells, from the ModelSpec and the batch size.

    method            kernels                              in -> out
    letterbox         letterbox_bgr                        frames u8 -> images u8 [N, H, W, 3]
    letterbox_nv12    letterbox_nv12                       luma and chroma planes u8 -> the same
    top_peaks         find_peaks, rank_peaks               heat map f32 [N, C, h, w] -> peaks: scores, labels, cells
    gather_heads      gather_heads                         dense heads and peaks -> peaks: boxes, shapes
    select            select_detections                    PeakPointers -> results: found, scores, boxes, offsets, ...
    masks             saliency_probabilities,              PeakPointers, results -> arena u8 [N, arena_bytes]
                      assemble_masks
    runs              count_runs, write_runs               results, arena -> results: run_counts, run_offsets; runs u32
    draw              draw_instances                       results, arena -> frames u8, drawn upon

A frame of level `heads` goes through letterbox, network, top_peaks, gather_heads, select, masks; one of level `peaks`
skips top_peaks and gather_heads. Text labels are not drawn here: reference/overlay.py writes them on the host.

The masks of image n are crops as in BoxMasks, one behind the other in its part of the arena; crop i begins at byte
results.offsets[n, i]. results.mask_bytes[n] is what all of them need: when it is more than arena_bytes, the crops that
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
    Layout,
    Nv12Frames,
    PeakPointers,
)
from centermask_runtime.cuda.driver import Argument, Dim3, Driver
from centermask_runtime.errors import UsageError
from centermask_runtime.geometry import PAD_VALUE, Letterbox
from centermask_runtime.reference.nv12 import YuvMatrix
from centermask_runtime.reference.overlay import ALPHA, PALETTE_BGR
from centermask_runtime.spec import ModelSpec

PIXEL_BLOCK = (32, 8, 1)  # threads; a thread is a pixel or a cell. The kernels' own numbers, as the next line
BLOCK = (256, 1, 1)
RANK_BLOCK = (512, 1, 1)
LARGEST_K = 4096  # keys of 8 bytes that are sorted in 32 KB of shared memory
LEAST_SORTED = 1024  # as many candidates are sorted at once; with more, the K best are searched first
LARGEST_S = 104  # S x S floats beside 4 KB of row taps in the 48 KB of shared memory that every device has
CANDIDATES_A_PEAK = 64  # default of what find_peaks remembers; more is right too, but slow
BLOCKS_A_MASK = 16
PEN_BITS = 4  # of each half width in one 64-bit argument


class Stages(Closing):
    """The compiled kernels for one model and batch size, and how they are launched. Owns the module."""

    def __init__(self, driver: Driver, image: bytes, spec: ModelSpec, batch: int = 1) -> None:
        """image: all kernels as a fatbin, cubin or PTX for this driver. Raises UsageError when K or S is too large."""
        if spec.max_detections > LARGEST_K:
            raise UsageError(
                f"The model gives {spec.max_detections} detections a frame, and the CUDA kernels sort at most "
                f"{LARGEST_K}; export it with a smaller max_detections."
            )
        if spec.max_detections < 1 or spec.shape_size > LARGEST_S:
            raise UsageError(
                f"The CUDA kernels need at least one detection and local shapes up to {LARGEST_S} x {LARGEST_S}; the "
                f"model has {spec.max_detections} and {spec.shape_size} x {spec.shape_size}: use the CPU pipeline."
            )
        assert batch >= 1, batch
        self.driver, self.spec, self.batch = driver, spec, batch
        self._module = driver.load_module(image)
        self._functions: dict[str, int] = {}

    def close(self) -> None:
        self.driver.unload_module(self._module)

    # Layouts: what the caller allocates.

    def images_bytes(self) -> int:
        """The network input, uint8 [N, H, W, 3]."""
        height, width = self.spec.input_hw
        return self.batch * height * width * 3

    def peaks_layout(self, candidates: int | None = None) -> Layout:
        """For level `heads`: what top_peaks and gather_heads write. candidates: how many are remembered an image."""
        n, k, size = self.batch, self.spec.max_detections, self.spec.shape_size
        height, width = self.spec.grid_hw
        cells = self.spec.num_classes * height * width
        capacity = min(k * CANDIDATES_A_PEAK if candidates is None else candidates, cells)
        return Layout.of(
            candidate_counts=(np.uint32, (n,)),
            scores=(np.float32, (n, k)),
            labels=(np.int32, (n, k)),
            cells_yx=(np.int32, (n, k, 2)),
            boxes=(np.float32, (n, k, 4)),
            shapes=(np.float32, (n, k, size, size)),
            candidate_keys=(np.uint64, (n, capacity)),  # last: a write too far leaves the block and is seen
        )

    def results_layout(self) -> Layout:
        """What select and runs write and the host reads. Rows behind found[n] are left as they were."""
        n, k = self.batch, self.spec.max_detections
        return Layout.of(
            found=(np.int32, (n,)),
            mask_bytes=(np.uint64, (n,)),  # needed in the arena, also when that is more than it has
            run_totals=(np.uint64, (n,)),  # needed in runs likewise
            scores=(np.float32, (n, k)),  # best first
            labels=(np.int32, (n, k)),
            boxes=(np.float32, (n, k, 4)),  # source pixels, inside the frame
            rects=(np.int32, (n, k, 4)),  # x0, y0, x1, y1 in pixels of the frame
            offsets=(np.uint64, (n, k)),  # of each crop in its image's part of the arena
            run_counts=(np.uint32, (n, k)),
            run_offsets=(np.uint64, (n, k)),
            rows=(np.int32, (n, k)),  # row of PeakPointers that each result came from
            sampled_boxes=(np.float32, (n, k, 4)),  # source pixels, as predicted: masks are sampled in these
        )

    def probabilities_bytes(self) -> int:
        """Scratch of `masks`: float32 [N, G, h, w]."""
        height, width = self.spec.grid_hw
        return 4 * self.batch * self.spec.saliency_channels * height * width

    def largest_arena(self, frame_hw: tuple[int, int]) -> int:
        """Bytes an image that K masks of the whole frame need. Most frames need a small part of it."""
        return self.spec.max_detections * frame_hw[0] * -(-frame_hw[1] // 8)

    # Stages: each is one or two launches.

    def letterbox(self, frames: Frames, letterbox: Letterbox, images: int, stream: int) -> None:
        """As reference/preprocess.py, bit for bit. images: device pointer, images_bytes() long."""
        self._launch(
            "letterbox_bgr", self._pixels(self.spec.input_hw), PIXEL_BLOCK, 0, stream,
            _pointer(frames.pointer), np.int64(frames.pitch), np.int64(frames.image_stride),
            *self._resize(letterbox), _pointer(images),
        )  # fmt: skip

    def letterbox_nv12(
        self, frames: Nv12Frames, letterbox: Letterbox, images: int, stream: int, matrix: YuvMatrix = YuvMatrix.BT601
    ) -> None:
        """As reference/nv12.py and then reference/preprocess.py, bit for bit."""
        assert not any(side % 2 for side in letterbox.frame_hw), letterbox
        planes: list[Argument] = []
        for plane in frames:
            planes += _pointer(plane.pointer), np.int64(plane.pitch), np.int64(plane.image_stride)
        self._launch(
            "letterbox_nv12", self._pixels(self.spec.input_hw), PIXEL_BLOCK, 0, stream,
            *planes, *map(np.int32, matrix.value), *self._resize(letterbox), _pointer(images),
        )  # fmt: skip

    def top_peaks(self, heatmap: int, peaks: Block, stream: int, least_score: float = 0.0) -> None:
        """As reference/peaks.py. Peaks below least_score are left out, which a later threshold would do anyway."""
        (height, width), classes, k = self.spec.grid_hw, self.spec.num_classes, self.spec.max_detections
        capacity = np.uint32(peaks.layout.fields["candidate_keys"].shape[1])
        grid = np.int32(height), np.int32(width)
        self.driver.fill(peaks["candidate_counts"], 0, 4 * self.batch, stream)
        tiles = _blocks(width, PIXEL_BLOCK[0]) * _blocks(height, PIXEL_BLOCK[1])
        self._launch(
            "find_peaks", (tiles, classes, self.batch), PIXEL_BLOCK, 0, stream,
            _pointer(heatmap), *grid, np.float32(least_score), capacity,
            _pointer(peaks["candidate_counts"]), _pointer(peaks["candidate_keys"]),
        )  # fmt: skip
        sorted_keys = max(_power_of_two(k), LEAST_SORTED)
        self._launch(
            "rank_peaks", (self.batch, 1, 1), RANK_BLOCK, 8 * sorted_keys, stream,
            _pointer(peaks["candidate_counts"]), _pointer(peaks["candidate_keys"]), _pointer(heatmap),
            np.int32(classes), *grid, np.float32(least_score), capacity, np.int32(k), np.int32(sorted_keys),
            _pointer(peaks["scores"]), _pointer(peaks["labels"]), _pointer(peaks["cells_yx"]),
        )  # fmt: skip

    def gather_heads(self, heads: HeadPointers, peaks: Block, stream: int) -> PeakPointers:
        """Boxes and local shapes at the peaks; returns where a graph of level `peaks` would have put all that."""
        height, width = self.spec.grid_hw
        self._launch(
            "gather_heads", (self.spec.max_detections, self.batch, 1), BLOCK, 0, stream,
            _pointer(peaks["cells_yx"]), _pointer(heads.offsets), _pointer(heads.sizes), _pointer(heads.shapes),
            np.int32(height), np.int32(width), np.int32(self.spec.shape_size**2), np.float32(self.spec.stride),
            _pointer(peaks["boxes"]), _pointer(peaks["shapes"]),
        )  # fmt: skip
        return PeakPointers(peaks["scores"], peaks["labels"], peaks["boxes"], peaks["shapes"], heads.saliency)

    def select(
        self,
        outputs: PeakPointers,
        letterbox: Letterbox,
        results: Block,
        stream: int,
        *,
        allowed: int,
        score_threshold: float,
        max_detections: int,
    ) -> None:
        """Which detections are kept, as pipeline.postprocess. allowed: uint8 [C] on the device, 0 drops the class."""
        k = self.spec.max_detections
        frame_h, frame_w = letterbox.frame_hw
        self._launch(
            "select_detections", (self.batch, 1, 1), BLOCK, 8 * _power_of_two(k), stream,
            _pointer(outputs.scores), _pointer(outputs.labels), _pointer(outputs.boxes), _pointer(allowed),
            np.int32(k), np.int32(self.spec.num_classes), np.float32(score_threshold), np.int32(max_detections),
            *map(np.float64, letterbox.offset_xy), *map(np.float64, letterbox.scale_xy),
            np.int32(frame_h), np.int32(frame_w),
            *_pointers(results, "found", "mask_bytes", "scores", "labels", "boxes", "rects", "offsets", "rows"),
            _pointer(results["sampled_boxes"]),
        )  # fmt: skip

    def masks(
        self,
        outputs: PeakPointers,
        letterbox: Letterbox,
        results: Block,
        arena: Arena,
        probabilities: int,
        stream: int,
        *,
        mask_threshold: float,
    ) -> None:
        """As reference/masks.py, bit for bit. probabilities: scratch, probabilities_bytes() long."""
        (height, width), size, channels = self.spec.grid_hw, self.spec.shape_size, self.spec.saliency_channels
        cells = self.batch * channels * height * width
        self._launch(
            "saliency_probabilities", (_blocks(cells, BLOCK[0]), 1, 1), BLOCK, 0, stream,
            _pointer(outputs.saliency), np.int64(cells), _pointer(probabilities),
        )  # fmt: skip
        self._launch(
            "assemble_masks", (BLOCKS_A_MASK, self.spec.max_detections, self.batch), BLOCK, 4 * size * size, stream,
            *_pointers(results, "found", "rows", "labels", "rects", "sampled_boxes", "offsets"),
            _pointer(outputs.shapes), _pointer(probabilities),
            *map(np.int32, (size, channels, height, width)),
            *map(np.float32, (*letterbox.scale_xy, *letterbox.offset_xy, self.spec.stride, mask_threshold)),
            np.uint64(arena.capacity), _pointer(arena.pointer),
        )  # fmt: skip

    def runs(self, letterbox: Letterbox, results: Block, arena: Arena, runs: Arena, stream: int) -> None:
        """COCO run lengths of the masks, as reference/rle.py before it writes them as a string."""
        assert letterbox.frame_hw[0] * letterbox.frame_hw[1] < 1 << 32, letterbox
        grid = self.spec.max_detections, self.batch, 1
        masks = [*_pointers(results, "found", "rects", "offsets"), _pointer(arena.pointer)]
        sizes: list[Argument] = [np.uint64(arena.capacity), *map(np.int32, letterbox.frame_hw)]
        run_counts = _pointer(results["run_counts"])
        self._launch("count_runs", grid, BLOCK, 0, stream, *masks, *sizes, run_counts)
        self._launch(
            "write_runs", grid, BLOCK, 0, stream,
            *masks, run_counts, *sizes, np.uint64(runs.capacity),
            *_pointers(results, "run_offsets", "run_totals"), _pointer(runs.pointer),
        )  # fmt: skip

    def draw(
        self,
        frames: Frames,
        letterbox: Letterbox,
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
        k, frame_hw = self.spec.max_detections, letterbox.frame_hw
        radius, half_widths = pen(max(round(min(frame_hw) / 400), 1))
        self._launch(
            "draw_instances", self._pixels(frame_hw), PIXEL_BLOCK, 4 * k, stream,
            *_pointers(results, "found", "rects", "boxes", "offsets"), _pointer(arena.pointer), _pointer(numbers),
            _pointer(palette), np.uint64(arena.capacity), *map(np.int32, (k, len(PALETTE), masks, boxes)),
            np.float32(1 - ALPHA), np.float32(ALPHA), np.int32(radius), np.uint64(half_widths),
            np.int64(frames.pitch), np.int64(frames.image_stride), *map(np.int32, frame_hw), _pointer(frames.pointer),
        )  # fmt: skip

    def _launch(self, name: str, grid: Dim3, block: Dim3, shared_bytes: int, stream: int, *arguments: Argument) -> None:
        if name not in self._functions:
            self._functions[name] = self.driver.function(self._module, name)
        self.driver.launch(self._functions[name], grid, block, shared_bytes, stream, arguments)

    def _pixels(self, size_hw: tuple[int, int]) -> Dim3:
        return _blocks(size_hw[1], PIXEL_BLOCK[0]), _blocks(size_hw[0], PIXEL_BLOCK[1]), self.batch

    def _resize(self, letterbox: Letterbox) -> tuple[Argument, ...]:
        """The geometry that both letterbox kernels take. The steps are computed as cv2.resize computes them."""
        assert letterbox.input_hw == self.spec.input_hw, (letterbox, self.spec.input_hw)
        scale_x, scale_y = letterbox.scale_xy
        sizes = (*letterbox.frame_hw, *letterbox.resized_hw, *letterbox.offset_xy)
        steps = np.float64(1 / scale_x), np.float64(1 / scale_y)
        return (*map(np.int32, sizes), *steps, *map(np.int32, (PAD_VALUE, *letterbox.input_hw)))


PALETTE: NDArray[np.uint8] = np.array(PALETTE_BGR, np.uint8)  # [colours, 3], what `draw` wants on the device


def pen(thickness: int) -> tuple[int, int]:
    """OpenCV's round pen: its radius, and how far it reaches at each distance from its middle, 4 bits a distance.

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


def _pointers(block: Block, *names: str) -> list[np.uint64]:
    return [np.uint64(block[name]) for name in names]


def _blocks(count: int, each: int) -> int:
    return -(-count // each)


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()

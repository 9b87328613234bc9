# SPDX-License-Identifier: Apache-2.0
"""Runs stages on any driver and compares them with reference/ bit for bit. Each function asserts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.cuda.buffers import Arena, Block, Frames, HeadPointers, Nv12Frames, PeakPointers
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.layouts import peaks_layout, results_layout
from centermask_runtime.cuda.results import Results
from centermask_runtime.cuda.workspace import Workspace
from centermask_runtime.geometry import Letterbox
from centermask_runtime.instances import Instances
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.pipeline.cpu import postprocess
from centermask_runtime.reference.nv12 import Nv12Frame, YuvMatrix
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.reference.peaks import decode_boxes, top_peaks
from centermask_runtime.reference.preprocess import letterbox as reference_letterbox
from centermask_runtime.selection import Selection
from centermask_runtime.spec import ModelSpec


@dataclass(frozen=True)
class Device:
    """A driver and the kernels compiled for it."""

    driver: Driver
    image: bytes


class Session(Workspace):
    """One comparison: kernels, a stream, and device memory that goes when it ends."""

    def __init__(self, device: Device, spec: ModelSpec, batch: int) -> None:
        super().__init__(device.driver, spec, device.image, batch)
        self.stream = device.driver.create_stream()

    def put(self, array: NDArray[Any]) -> int:
        array = np.ascontiguousarray(array)
        pointer = self.room(max(array.nbytes, 1))
        if array.size:
            self.driver.upload(pointer, array, self.stream)
            self.driver.synchronize(self.stream)
        return pointer

    def get(self, pointer: int, shape: tuple[int, ...], dtype: Any = np.uint8) -> NDArray[Any]:
        array = np.empty(shape, dtype)
        if array.size:
            self.driver.download(array, pointer, self.stream)
            self.driver.synchronize(self.stream)
        return array

    def views(self, block: Block) -> dict[str, NDArray[Any]]:
        host = self.get(block.pointer, (block.layout.nbytes,))
        return {name: block.layout.view(host, name) for name in block.layout.fields}

    def put_frames(self, frames: NDArray[np.uint8], gap: int = 0) -> Frames:
        """[N, H, W, 3] or planes [N, H, bytes] with `gap` more bytes a row, which no stage may touch."""
        rows = frames.reshape(*frames.shape[:2], -1)
        padded = np.pad(rows, ((0, 0), (0, 0), (0, gap)), constant_values=0xEE)
        return Frames(self.put(padded), padded.shape[2], padded.shape[1] * padded.shape[2], len(padded))

    def close(self) -> None:
        super().close()
        self.driver.destroy_stream(self.stream)


def same_bits(found: NDArray[Any], expected: NDArray[Any], what: str) -> None:
    """Equal shape and type, and equal bits; every NaN is the same, as are both zeros."""
    assert found.shape == expected.shape and found.dtype == expected.dtype, (what, found.dtype, expected.dtype)
    if not np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"):
        where = np.argwhere(~((found == expected) | ((found != found) & (expected != expected))))
        first = tuple(where[0])
        raise AssertionError(f"{what}: {len(where)} of {found.size} differ, first {first}: "
                             f"{found[first]!r} instead of {expected[first]!r}")  # fmt: skip


def letterbox_equals_reference(device: Device, frames: NDArray[np.uint8], spec: ModelSpec, gap: int = 0) -> None:
    """frames [N, H, W, 3]"""
    box = Letterbox.fit((frames.shape[1], frames.shape[2]), spec.input_hw)
    expected = np.stack([reference_letterbox(frame, box) for frame in frames])
    with Session(device, spec, len(frames)) as session:
        session.stages.letterbox(session.put_frames(frames, gap), box, session.images, session.stream)
        same_bits(session.get(session.images, expected.shape), expected, f"letterbox {box}")


def letterbox_nv12(
    device: Device, luma: NDArray[np.uint8], chroma: NDArray[np.uint8], spec: ModelSpec, matrix: YuvMatrix, gap: int = 0
) -> NDArray[np.uint8]:
    """luma [N, H, W], chroma [N, H / 2, W] -> the images, [N, input_h, input_w, 3]"""
    box = Letterbox.fit((luma.shape[1], luma.shape[2]), spec.input_hw)
    with Session(device, spec, len(luma)) as session:
        planes = Nv12Frames(session.put_frames(luma, gap), session.put_frames(chroma, gap + 2))
        session.stages.letterbox_nv12(planes, box, session.images, session.stream, matrix)
        return session.get(session.images, (len(luma), *spec.input_hw, 3))


def nv12_equals_reference(
    device: Device,
    luma: NDArray[np.uint8],
    chroma: NDArray[np.uint8],
    spec: ModelSpec,
    matrix: YuvMatrix = YuvMatrix.BT601,
    gap: int = 0,
) -> None:
    box = Letterbox.fit((luma.shape[1], luma.shape[2]), spec.input_hw)
    frames = [Nv12Frame(np.concatenate(planes), matrix) for planes in zip(luma, chroma, strict=True)]
    expected = np.stack([reference_letterbox(frame.to_bgr(), box) for frame in frames])
    found = letterbox_nv12(device, luma, chroma, spec, matrix, gap)
    same_bits(found, expected, f"NV12 letterbox {matrix.name} {box}")


def peaks_equal_reference(
    device: Device, heatmaps: NDArray[np.float32], k: int, *, candidates: int | None = None, least_score: float = 0.0
) -> None:
    """heatmaps [N, C, h, w]; h and w multiples of 8."""
    count, classes, height, width = heatmaps.shape
    with Session(device, spec_of_grid(classes, (height, width), k), count) as session:
        layout = peaks_layout(session.spec, count, candidates)
        block = layout.at(session.room(layout.nbytes))
        session.stages.top_peaks(session.put(heatmaps), block, count, session.stream, least_score)
        found = session.views(block)
    for image, heatmap in enumerate(heatmaps):
        expected = top_peaks(heatmap, k)
        gone = expected.scores < np.float32(least_score)
        for array in (expected.scores, expected.labels, expected.cells_yx):
            array[gone] = 0
        same_bits(found["scores"][image], expected.scores, f"scores of image {image}")
        same_bits(found["labels"][image], expected.labels, f"labels of image {image}")
        same_bits(found["cells_yx"][image], expected.cells_yx, f"cells of image {image}")


def spec_of_grid(classes: int, grid_hw: tuple[int, int], k: int, shape_size: int = 4, channels: int = 1) -> ModelSpec:
    """A model whose heat map has this size in cells, multiples of 8."""
    names = tuple(f"class {i}" for i in range(classes))
    input_hw = 4 * grid_hw[0], 4 * grid_hw[1]
    mean = std = (0.5, 0.5, 0.5)
    return ModelSpec(
        "grid", names, tuple(range(classes)), input_hw, mean, std, shape_size=shape_size, saliency_channels=channels,
        max_detections=k,
    )  # fmt: skip


@dataclass(frozen=True)
class DenseHeads:
    heatmap: NDArray[np.float32]  # [N, C, h, w]
    offsets: NDArray[np.float32]  # [N, 2, h, w]
    sizes: NDArray[np.float32]  # [N, 2, h, w]
    shapes: NDArray[np.float32]  # [N, S * S, h, w]


def peaks_of_heads(device: Device, heads: DenseHeads, spec: ModelSpec) -> PeakOutputs:
    """What top_peaks and gather_heads make of dense heads, compared with the reference; saliency is left empty."""
    count, size = len(heads.heatmap), spec.shape_size
    with Session(device, spec, count) as session:
        block = session.peaks
        arrays = (heads.heatmap, heads.offsets, heads.sizes, heads.shapes)
        pointers = HeadPointers(*[session.put(array) for array in arrays], 0)  # type: ignore[call-arg]
        session.stages.top_peaks(pointers.heatmap, block, count, session.stream)
        outputs = session.stages.gather_heads(pointers, block, count, session.stream)
        assert outputs == PeakPointers(block["scores"], block["labels"], block["boxes"], block["shapes"], 0)
        found = session.views(block)
    for image in range(count):
        peaks = top_peaks(heads.heatmap[image], spec.max_detections)
        y, x = peaks.cells_yx.T
        offsets, sizes = heads.offsets[image, :, y, x], heads.sizes[image, :, y, x]
        same_bits(found["boxes"][image], decode_boxes(peaks.cells_yx, offsets, sizes, spec.stride), "boxes")
        same_bits(found["shapes"][image], heads.shapes[image, :, y, x].reshape(-1, size, size), "shapes")
    none = np.zeros((count, 0, *spec.grid_hw), np.float32)
    return PeakOutputs(found["scores"], found["labels"], found["boxes"], found["shapes"], none)


@dataclass(frozen=True)
class Drawn:
    frames: NDArray[np.uint8] | None = None  # [N, H, W, 3] to draw on; None: skip the overlay
    masks: bool = True
    boxes: bool = True
    numbers: NDArray[np.int32] | None = None  # [N, K]


def results_equal_reference(
    device: Device,
    outputs: PeakOutputs,
    letterbox: Letterbox,
    spec: ModelSpec,
    *,
    score_threshold: float = 0.25,
    mask_threshold: float = 0.3,
    max_detections: int | None = None,
    classes: tuple[int, ...] | None = None,
    drawn: Drawn | None = None,
) -> list[Instances]:
    """select, masks, runs and draw on a batch against postprocess, BoxMasks.rles and draw. Returns the truth."""
    count = len(outputs.scores)
    most = spec.max_detections if max_detections is None else max_detections
    selection = Selection(score_threshold, mask_threshold, most, classes)
    truth = [postprocess(outputs, n, letterbox, spec, selection) for n in range(count)]
    allowed = np.array([classes is None or c in classes for c in range(spec.num_classes)], np.uint8)
    mask_bytes = [sum(crop.nbytes for crop in one.masks.packed) for one in truth]
    run_totals = [sum(len(_runs(rle)) for rle in one.masks.rles()) for one in truth]
    with Session(device, spec, count) as session:
        stages, stream = session.stages, session.stream
        layout = results_layout(spec, count)
        results = layout.at(session.room(layout.nbytes))
        # Exactly what is needed, so that a byte too many is outside the allocation.
        arena, runs = (Arena(session.room(count * size * each), size) for size, each in
                       ((max(mask_bytes), 1), (max(run_totals), 4)))  # fmt: skip
        arrays = (outputs.scores, outputs.labels, outputs.boxes, outputs.shapes, outputs.saliency)
        pointers = PeakPointers(*[session.put(array) for array in arrays])
        stages.select(
            pointers, letterbox, results, count, stream, allowed=session.put(allowed), score_threshold=score_threshold,
            max_detections=most,
        )  # fmt: skip
        stages.masks(
            pointers, letterbox, results, arena, session.probabilities, count, stream, mask_threshold=mask_threshold
        )
        stages.runs(letterbox.frame_hw, results, arena, runs, count, stream)
        found = session.views(results)
        bits = session.get(arena.pointer, (count, arena.capacity))
        lengths = session.get(runs.pointer, (count, runs.capacity), np.uint32)
        for n, expected in enumerate(truth):
            assert found["mask_bytes"][n] == mask_bytes[n] and found["run_totals"][n] == run_totals[n], (n, found)
            one = Results({name: array[n] for name, array in found.items()}, bits[n], lengths[n])
            image = one.instances(letterbox.frame_hw, spec)
            same_instances(image, expected)
            assert image.masks.runs is not None and image.masks.rles() == expected.masks.rles(), f"runs of image {n}"
        if drawn is not None and drawn.frames is not None:
            frames = session.put_frames(drawn.frames, gap=5)
            numbers = 0 if drawn.numbers is None else session.put(drawn.numbers)
            stages.draw(
                frames, letterbox.frame_hw, results, arena, session.palette, stream, numbers=numbers, masks=drawn.masks,
                boxes=drawn.boxes,
            )  # fmt: skip
            height, width = letterbox.frame_hw
            painted = session.get(frames.pointer, (count, height, width * 3 + 5))
            assert (painted[:, :, width * 3 :] == 0xEE).all(), "the overlay wrote beyond a row"
            for n, expected in enumerate(truth):
                ids = None if drawn.numbers is None else drawn.numbers[n, : len(expected)].astype(np.int64)
                style = DrawStyle(masks=drawn.masks, boxes=drawn.boxes, labels=False)
                picture = draw(drawn.frames[n], replace(expected, ids=ids), style)
                same_bits(painted[n, :, : width * 3].reshape(height, width, 3), picture, f"overlay of image {n}")
    return truth


def same_instances(found: Instances, expected: Instances) -> None:
    same_bits(found.scores, expected.scores, "scores")
    same_bits(found.labels, expected.labels, "labels")
    same_bits(found.boxes, expected.boxes, "boxes")
    same_bits(found.masks.rects, expected.masks.rects, "rects")
    for i, (crop, truth) in enumerate(zip(found.masks.packed, expected.masks.packed, strict=True)):
        same_bits(crop, truth, f"mask {i} at {expected.masks.rects[i].tolist()}")


def _runs(rle: dict[str, Any]) -> str:
    """One character a run: only the last group of each has bit 32 clear."""
    return "".join(c for c in rle["counts"] if not (ord(c) - 48) & 32)


def random_outputs(rng: np.random.Generator, spec: ModelSpec, count: int, spread: float = 1.3) -> PeakOutputs:
    """What a network might give: boxes around the input, some partly or wholly outside."""
    k, size = spec.max_detections, spec.shape_size
    height, width = spec.input_hw
    centres = rng.uniform(-0.15, 1.15, (count, k, 2)) * (width, height)
    halves = rng.uniform(0.01, spread / 4, (count, k, 2)) * (width, height)
    return PeakOutputs(
        rng.uniform(0, 1, (count, k)).astype(np.float32),
        rng.integers(0, spec.num_classes, (count, k), dtype=np.int32),
        np.concatenate((centres - halves, centres + halves), 2).astype(np.float32),
        rng.normal(0.7, 2, (count, k, size, size)).astype(np.float32),
        rng.normal(0.7, 2, (count, spec.saliency_channels, *spec.grid_hw)).astype(np.float32),
    )


def with_boxes(outputs: PeakOutputs, boxes: NDArray[np.float32]) -> PeakOutputs:
    """The same outputs with other boxes [K, 4] in every image."""
    return replace(outputs, boxes=np.broadcast_to(boxes, outputs.boxes.shape).astype(np.float32))

# SPDX-License-Identifier: Apache-2.0
"""Time of masks at source resolution: box crops (reference/masks.py) against canvases of the whole frame.

Timed: everything from logits to masks that can be kept. Boxes is box_masks, with its sigmoids and the packing of
bits. Canvases is what peers' tensor code does for masks at source resolution, in PyTorch as they run it: the sigmoids,
K masks at the resolution of the network's grid, interpolated to K float frames, multiplied by the inside of their boxes
and compared with the threshold, giving K boolean frames. Tuned canvases does the same in OpenCV and NumPy with as few
passes as we could find. Not timed: the network, the boxes, run lengths. All run on one thread, take turns and get the
same numbers; the frame is 1080p.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.geometry import Letterbox
from centermask_runtime.reference.masks import box_masks
from centermask_runtime.reference.sigmoid import sigmoid
from centermask_runtime.speed import machine

FRAME_HW = 1080, 1920
INPUT_HW = 512, 512
STRIDE = 4
SHAPE_SIZE = 32
THRESHOLD = 0.5


@dataclass(frozen=True)
class Objects:
    boxes_xyxy: NDArray[np.float32]  # [K, 4] source pixels
    labels: NDArray[np.int64]  # [K]
    shapes: NDArray[np.float32]  # [K, S, S] logits
    saliency: NDArray[np.float32]  # [C, h, w] logits
    letterbox: Letterbox


def invent_objects(count: int, size: int, classes: int, seed: int = 0) -> Objects:
    """Discs of `size` pixels, give or take a tenth, anywhere in the frame; smooth saliency."""
    rng = np.random.default_rng(seed)
    sides = rng.uniform(0.9, 1.1, (count, 2)) * size
    corners = rng.uniform(0, 1, (count, 2)) * (np.array(FRAME_HW[::-1]) - sides)
    middle = (np.arange(SHAPE_SIZE) + 0.5) / SHAPE_SIZE - 0.5
    disc = 30 * (0.45 - np.hypot(middle[:, None], middle[None]))
    grid = INPUT_HW[0] // STRIDE, INPUT_HW[1] // STRIDE
    noise = rng.normal(1, 8, (classes, *grid)).astype(np.float32)
    return Objects(
        np.concatenate((corners, corners + sides), axis=1).astype(np.float32),
        rng.integers(0, classes, count),
        (disc + rng.normal(0, 1, (count, SHAPE_SIZE, SHAPE_SIZE))).astype(np.float32),
        np.stack([cv2.GaussianBlur(channel, (0, 0), 3) + 2 for channel in noise]),
        Letterbox.fit(FRAME_HW, INPUT_HW),
    )


def masks_in_boxes(objects: Objects) -> BoxMasks:
    return box_masks(
        objects.boxes_xyxy, objects.labels, objects.shapes, objects.saliency, objects.letterbox, STRIDE, THRESHOLD
    )


def small_masks(objects: Objects) -> NDArray[np.float32]:
    """Probabilities [K, h, w] on the cells that hold the frame: each shape resized to its box, times saliency."""
    letterbox = objects.letterbox
    (left, top), (inner_h, inner_w) = letterbox.offset_xy, letterbox.resized_hw
    inside = np.s_[top // STRIDE : (top + inner_h) // STRIDE, left // STRIDE : (left + inner_w) // STRIDE]
    saliency = {label: sigmoid(objects.saliency[label][inside]) for label in np.unique(objects.labels).tolist()}
    small = np.zeros((len(objects.shapes), inner_h // STRIDE, inner_w // STRIDE), np.float32)
    cells = objects.boxes_xyxy * (letterbox.scale_xy[0] / STRIDE)
    cells[:, 2:] += 1
    for mask, shape, (x0, y0, x1, y1), label in zip(
        small, sigmoid(objects.shapes), cells.astype(int).tolist(), objects.labels.tolist(), strict=True
    ):
        part = saliency[label][y0:y1, x0:x1]
        mask[y0:y1, x0:x1] = part * cv2.resize(shape, part.shape[::-1])
    return small


def enlarge(small: NDArray[np.float32]) -> NDArray[np.float32]:
    frames = np.empty((len(small), *FRAME_HW), np.float32)
    for mask, frame in zip(small, frames, strict=True):
        cv2.resize(mask, FRAME_HW[::-1], dst=frame, interpolation=cv2.INTER_LINEAR)
    return frames


def masks_on_canvases(objects: Objects) -> NDArray[np.bool_]:
    """Masks bool [K, H, W], each step on all K frames at once, as the tensor code of peers is written."""
    x0, y0, x1, y1 = torch.from_numpy(objects.boxes_xyxy)[:, :, None, None].unbind(1)  # each [K, 1, 1]
    columns = torch.arange(FRAME_HW[1], dtype=torch.float32)[None, None, :]
    rows = torch.arange(FRAME_HW[0], dtype=torch.float32)[None, :, None]
    small = torch.from_numpy(small_masks(objects))[None]
    frames = torch.nn.functional.interpolate(small, FRAME_HW, mode="bilinear")[0]
    frames = frames * ((columns >= x0) * (columns < x1) * (rows >= y0) * (rows < y1))
    masks: NDArray[np.bool_] = (frames >= THRESHOLD).numpy()
    return masks


def masks_on_tuned_canvases(objects: Objects) -> NDArray[np.bool_]:
    """The same with as few passes over the K frames as possible."""
    frames = enlarge(small_masks(objects))
    for frame, (x0, y0, x1, y1) in zip(frames, np.round(objects.boxes_xyxy).astype(int).tolist(), strict=True):
        frame[:y0] = frame[y1:] = frame[:, :x0] = frame[:, x1:] = 0
    return frames >= np.float32(THRESHOLD)


@dataclass(frozen=True)
class Result:
    objects: int
    boxes_ms: tuple[float, float, float]  # quartiles: the second is the median
    canvases_ms: tuple[float, float, float]
    tuned_canvases_ms: tuple[float, float, float]
    ratio: float  # of the medians, canvases to boxes
    tuned_ratio: float
    iou: float  # of boxes and canvases, mean over objects


def measure(count: int, size: int, classes: int, rounds: int) -> Result:
    """The three ways take turns `rounds` times, after one untimed turn that compares their masks."""
    objects = invent_objects(count, size, classes)
    masks, frames = masks_in_boxes(objects), masks_on_canvases(objects)
    iou = statistics.mean(_iou(masks.canvas(k), frames[k]) for k in range(count))
    assert (masks_on_tuned_canvases(objects) != frames).mean() < 1e-3  # boxes are rounded there
    del masks, frames
    ways: tuple[Callable[[Objects], object], ...] = masks_in_boxes, masks_on_canvases, masks_on_tuned_canvases
    times = np.array([[_milliseconds(way, objects) for way in ways] for _ in range(rounds)])
    boxes, canvases, tuned = (_quartiles(column) for column in times.T)
    return Result(count, boxes, canvases, tuned, canvases[1] / boxes[1], tuned[1] / boxes[1], iou)


def _milliseconds(way: Callable[[Objects], object], objects: Objects) -> float:
    start = time.perf_counter()
    way(objects)
    return (time.perf_counter() - start) * 1e3


def _quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, (25, 50, 75)).round(3).tolist()
    return low, middle, high


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(int((a | b).sum()), 1))


def _table(results: list[Result], size: int, classes: int) -> Table:
    table = Table(
        title=f"Masks of about {size} x {size} pixels, {FRAME_HW[1]} x {FRAME_HW[0]} frame, {classes} classes"
    )
    table.caption = "milliseconds: median (quartiles)"
    for heading in ("objects", "boxes", "canvases", "tuned canvases", "ratio", "tuned ratio", "IoU"):
        table.add_column(heading, justify="right")
    for r in results:
        ways = (
            f"{median:.1f} ({low:.1f}-{high:.1f})"
            for low, median, high in (r.boxes_ms, r.canvases_ms, r.tuned_canvases_ms)
        )
        table.add_row(str(r.objects), *ways, f"{r.ratio:.0f}", f"{r.tuned_ratio:.0f}", f"{r.iou:.3f}")
    return table


@click.command(help=__doc__)
@click.option("--objects", "counts", multiple=True, type=click.IntRange(1), default=(10, 50, 100), show_default=True)
@click.option(
    "--size", default=200, type=click.IntRange(2, 900), show_default=True, help="Side of an object in pixels."
)
@click.option("--classes", default=80, type=click.IntRange(1), show_default=True, help="Saliency channels.")
@click.option("--rounds", default=15, type=click.IntRange(1), show_default=True)
def main(counts: tuple[int, ...], size: int, classes: int, rounds: int) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    results = [measure(count, size, classes, rounds) for count in counts]
    Console().print(_table(results, size, classes))
    where = {**machine(), "torch": torch.__version__}
    line = {"benchmark": "masks", "size": size, "classes": classes, "rounds": rounds, "machine": where}
    print(json.dumps({**line, "results": [asdict(result) for result in results]}, separators=(",", ":")))


if __name__ == "__main__":
    main()

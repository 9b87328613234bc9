# SPDX-License-Identifier: Apache-2.0
"""Time of masks at source resolution: box crops (reference/masks.py) against canvases of the whole frame.

Timed: everything from logits to masks that can be kept. Boxes is box_masks, with its sigmoids and the packing of
bits. Canvases is what peers do for masks at source resolution: the sigmoids, K masks at the resolution of the
network's grid, each enlarged to a float frame with cv2.resize and cut at its box, then compared with the threshold,
giving K boolean frames. Not timed: the network, the boxes, run lengths. Both run on one thread, take turns and get
the same numbers; the frame is 1080p.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from centermask_runtime.geometry import Letterbox
from centermask_runtime.instances import BoxMasks
from centermask_runtime.reference.masks import box_masks
from centermask_runtime.reference.sigmoid import sigmoid

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


def masks_on_canvases(objects: Objects) -> NDArray[np.bool_]:
    """Masks bool [K, H, W] by way of K float frames."""
    letterbox = objects.letterbox
    (left, top), (inner_h, inner_w) = letterbox.offset_xy, letterbox.resized_hw
    inside = np.s_[top // STRIDE : (top + inner_h) // STRIDE, left // STRIDE : (left + inner_w) // STRIDE]
    saliency = {label: sigmoid(objects.saliency[label][inside]) for label in np.unique(objects.labels).tolist()}
    shapes = sigmoid(objects.shapes)
    edges = np.round(objects.boxes_xyxy).astype(int).tolist()
    cells_per_pixel = letterbox.scale_xy[0] / STRIDE
    canvases = np.empty((len(shapes), *FRAME_HW), np.float32)
    for canvas, shape, (x0, y0, x1, y1), label in zip(canvases, shapes, edges, objects.labels.tolist(), strict=True):
        column, row = (round(edge * cells_per_pixel) for edge in (x0, y0))
        part = saliency[label][row : round(y1 * cells_per_pixel) + 1, column : round(x1 * cells_per_pixel) + 1]
        small = np.zeros_like(saliency[label])
        small[row : row + len(part), column : column + part.shape[1]] = part * cv2.resize(shape, part.shape[::-1])
        cv2.resize(small, FRAME_HW[::-1], dst=canvas, interpolation=cv2.INTER_LINEAR)
        canvas[:y0] = canvas[y1:] = canvas[:, :x0] = canvas[:, x1:] = 0
    return canvases >= np.float32(THRESHOLD)


@dataclass(frozen=True)
class Result:
    objects: int
    boxes_ms: float  # medians
    boxes_quartiles_ms: tuple[float, float]
    canvases_ms: float
    canvases_quartiles_ms: tuple[float, float]
    ratio: float  # of the medians
    iou: float  # of the two ways, mean over objects


def measure(count: int, size: int, classes: int, rounds: int) -> Result:
    """Alternates the two ways `rounds` times; the first pair is a warm-up and compares their masks."""
    objects = invent_objects(count, size, classes)
    mine, theirs = masks_in_boxes(objects), masks_on_canvases(objects)
    iou = statistics.mean(_iou(mine.canvas(k), theirs[k]) for k in range(count))
    del mine, theirs
    boxes_ms, canvases_ms = [], []
    for _ in range(rounds):
        canvases_ms.append(_milliseconds(lambda: masks_on_canvases(objects)))
        boxes_ms.append(_milliseconds(lambda: masks_in_boxes(objects)))
    boxes, canvases = _quartiles(boxes_ms), _quartiles(canvases_ms)
    return Result(
        count, boxes[1], (boxes[0], boxes[2]), canvases[1], (canvases[0], canvases[2]), canvases[1] / boxes[1], iou
    )


def _milliseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return low, middle, high


def _iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(int((a | b).sum()), 1))


def _machine() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def _table(results: list[Result], size: int, classes: int) -> Table:
    table = Table(
        title=f"Masks of about {size} x {size} pixels, {FRAME_HW[1]} x {FRAME_HW[0]} frame, {classes} classes"
    )
    for heading in ("objects", "boxes, ms", "quartiles", "canvases, ms", "quartiles", "ratio", "IoU"):
        table.add_column(heading, justify="right")
    for r in results:
        spreads = (
            "{:.1f} to {:.1f}".format(*quartiles) for quartiles in (r.boxes_quartiles_ms, r.canvases_quartiles_ms)
        )
        boxes, canvases = spreads
        table.add_row(
            str(r.objects),
            f"{r.boxes_ms:.2f}",
            boxes,
            f"{r.canvases_ms:.0f}",
            canvases,
            f"{r.ratio:.0f}",
            f"{r.iou:.3f}",
        )
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
    results = [measure(count, size, classes, rounds) for count in counts]
    Console().print(_table(results, size, classes))
    line = {"benchmark": "masks", "size": size, "classes": classes, "rounds": rounds, "machine": _machine()}
    print(json.dumps({**line, "results": [asdict(result) for result in results]}, separators=(",", ":")))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""What a 1080p frame costs beside the network: letterbox, masks of all objects, and drawing them.

    python -m benchmarks.frame --objects 50 --size 150

The objects are invented (benchmarks/masks.py): discs anywhere in a frame of soft noise, 80 classes. Everything is the
CPU pipeline's own code, on one thread or on as many as --threads; medians of all rounds.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import click
import cv2
import numpy as np

from benchmarks.masks import FRAME_HW, INPUT_HW, STRIDE, THRESHOLD, invent_objects
from centermask_runtime.geometry import Letterbox
from centermask_runtime.instances import Instances
from centermask_runtime.reference import preprocess
from centermask_runtime.reference.masks import box_masks
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.speed import machine

CLASSES = 80
WARMUP = 3  # rounds that do not count


def measure(objects: int, size: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of each part and of their sum."""
    found = invent_objects(objects, size, CLASSES)
    noise = np.random.default_rng(0).integers(0, 256, (*FRAME_HW, 3), np.uint8)
    frame = np.asarray(cv2.GaussianBlur(noise, (0, 0), 4), np.uint8)
    letterbox = Letterbox.fit(FRAME_HW, INPUT_HW)
    masks = box_masks(
        found.boxes_xyxy, found.labels, found.shapes, found.saliency, found.letterbox, STRIDE, THRESHOLD
    )  # fmt: skip
    instances = Instances(
        FRAME_HW, found.boxes_xyxy, np.linspace(0.9, 0.3, objects, dtype=np.float32), found.labels.astype(np.int32),
        masks, tuple(f"class {index}" for index in range(CLASSES)), tuple(range(CLASSES)),
    )  # fmt: skip
    parts: dict[str, Callable[[], object]] = {
        "letterbox": lambda: preprocess.letterbox(frame, letterbox),
        "masks": lambda: box_masks(
            found.boxes_xyxy, found.labels, found.shapes, found.saliency, found.letterbox, STRIDE, THRESHOLD
        ),
        "drawing": lambda: draw(frame, instances, DrawStyle()),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(WARMUP + rounds):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            if turn >= WARMUP:
                times[name].append((time.perf_counter() - start) * 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return medians | {"together": sum(medians.values())}


@click.command(help=__doc__)
@click.option("--objects", default=50, show_default=True)
@click.option("--size", default=150, show_default=True, help="Side of an object in pixels.")
@click.option("--threads", default=1, show_default=True, help="Of OpenCV.")
@click.option("--rounds", default=40, show_default=True)
def main(objects: int, size: int, threads: int, rounds: int) -> None:
    cv2.setNumThreads(threads)
    result = {name: round(value, 2) for name, value in measure(objects, size, rounds).items()}
    click.echo(json.dumps({"objects": objects, "size": size, "threads": threads, "ms": result, "machine": machine()}))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Small comparisons made to notice faults: what tests/whole/test_cuda_faults.py runs on damaged sources.

`python -m tests.support.cuda_cpu.probes LIBRARY NAME` runs one of them, for a build that ends the process.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from centermask_runtime.cuda.buffers import Arena, PeakPointers
from centermask_runtime.cuda.layouts import results_layout
from centermask_runtime.geometry import Letterbox
from tests.support.cuda_cpu.compare import (
    DenseHeads,
    Device,
    Drawn,
    Session,
    letterbox_equals_reference,
    nv12_equals_reference,
    peaks_equal_reference,
    peaks_of_heads,
    random_outputs,
    results_equal_reference,
    spec_of_grid,
    with_boxes,
)
from tests.support.cuda_cpu.cpu_driver import CpuDriver

SPEC = spec_of_grid(3, (16, 24), 6, shape_size=8, channels=3)  # input 64 x 96


def preprocess(device: Device) -> None:
    rng = np.random.default_rng(1)
    for frame_hw in ((30, 40), (75, 90)):
        letterbox_equals_reference(device, rng.integers(0, 256, (2, *frame_hw, 3), dtype=np.uint8), SPEC)
    luma, chroma = (rng.integers(0, 256, (1, rows, 40), dtype=np.uint8) for rows in (30, 15))
    nv12_equals_reference(device, luma, chroma, SPEC)


def peaks(device: Device) -> None:
    rng = np.random.default_rng(2)
    heatmaps = (np.round(rng.normal(0, 2, (2, 3, 16, 24)) * 8) / 8).astype(np.float32)
    peaks_equal_reference(device, heatmaps, 12)
    peaks_equal_reference(device, heatmaps, 12, candidates=20)
    many = rng.normal(0, 2, (1, 16, 32, 32)).astype(np.float32)  # more peaks than are sorted at once
    peaks_equal_reference(device, many, 16, candidates=many.size)  # 16: all that is sorted counts
    heads = DenseHeads(*(rng.normal(0, 2, (2, c, 16, 24)).astype(np.float32) for c in (3, 2, 2, 64)))
    peaks_of_heads(device, heads, SPEC)


def masks(device: Device) -> None:
    """From select to draw, with a frame wide enough for several blocks of columns."""
    rng = np.random.default_rng(3)
    letterbox = Letterbox.fit((40, 600), SPEC.input_hw)
    outputs = random_outputs(rng, SPEC, 2)
    outputs.scores[:] = np.round(outputs.scores * 4) / 4
    frames = rng.integers(0, 256, (2, *letterbox.frame_hw, 3), dtype=np.uint8)
    results_equal_reference(device, outputs, letterbox, SPEC, drawn=Drawn(frames))
    spec = dataclasses.replace(SPEC, max_detections=3)
    square = Letterbox.fit((64, 96), spec.input_hw)
    boxes = [(0, 0, 96, 64), (10, 0, 43, 64), (20, 7, 73, 60)]
    outputs = with_boxes(random_outputs(rng, spec, 1), np.array(boxes, np.float32))
    outputs.saliency[:] = 40
    frames = rng.integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    results_equal_reference(device, outputs, square, spec, score_threshold=0.0, drawn=Drawn(frames))
    outputs.shapes[:] = 40  # every product is exactly 1
    results_equal_reference(device, outputs, square, spec, score_threshold=0.0, mask_threshold=1.0)


def arena(device: Device) -> None:
    """One byte less than the masks need."""
    outputs = random_outputs(np.random.default_rng(4), SPEC, 1)
    letterbox = Letterbox.fit((64, 96), SPEC.input_hw)
    with Session(device, SPEC, 1) as session:
        layout = results_layout(SPEC, 1)
        results = layout.at(session.room(layout.nbytes))
        pointers = PeakPointers(
            session.put(outputs.scores), session.put(outputs.labels), session.put(outputs.boxes),
            session.put(outputs.shapes), session.put(outputs.saliency),
        )  # fmt: skip
        allowed = session.put(np.ones(3, np.uint8))
        session.stages.select(
            pointers, letterbox, results, 1, session.stream, allowed=allowed, score_threshold=0, max_detections=8
        )
        needed = int(session.views(results)["mask_bytes"][0])
        arena = Arena(session.room(needed - 1), needed - 1)
        session.stages.masks(
            pointers, letterbox, results, arena, session.probabilities, 1, session.stream, mask_threshold=0.3
        )
        session.driver.synchronize(session.stream)


PROBES: dict[str, Callable[[Device], None]] = {
    "preprocess": preprocess,
    "peaks": peaks,
    "masks": masks,
    "arena": arena,
}


def run_probe(library: Path, probe: str) -> None:
    """With threads from the first to the last between barriers, then from the last to the first."""
    for reversed_threads in (False, True):
        PROBES[probe](Device(CpuDriver(reversed_threads=reversed_threads), library.read_bytes()))


if __name__ == "__main__":
    run_probe(Path(sys.argv[1]), sys.argv[2])

# SPDX-License-Identifier: Apache-2.0
"""Masks as YOLO segmentation labels: a .txt file per frame, one line per object, `class x1 y1 x2 y2 ...`.

Coordinates are divided by the frame's width and height. A line is one closed outline, so a mask of several pieces, or
with holes, is one walk: to each further ring and back on the same way, which encloses nothing. Filled by the even-odd
rule, as pycocotools fills polygons, a line is the mask again, pixel by pixel. The best object comes first; an object
without pixels has no line, a frame without objects an empty file. classes.txt beside them has the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import write_whole
from centermask_runtime.reference.polygons import Polygon
from centermask_runtime.sinks.frame_files import FrameFileSink
from centermask_runtime.sources.source import Frame, SourceInfo

CLASSES = "classes.txt"


class YoloSink(FrameFileSink):
    """A Sink that writes the labels of each frame."""

    suffix = ".txt"

    def __init__(self, folder: str | Path, class_names: Sequence[str], source: SourceInfo | None = None) -> None:
        """Raises UsageError where the folder cannot be written."""
        super().__init__(folder, source)
        write_whole(self.folder / CLASSES, "".join(f"{name}\n" for name in class_names).encode())

    def write(self, target: Path, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None) -> None:
        size = np.array(instances.frame_hw[::-1], np.float64)
        lines = []
        for label, pieces in zip(instances.labels.tolist(), instances.masks.polygons(), strict=True):
            if pieces:
                numbers = " ".join(f"{value:.8g}" for value in (one_walk(pieces) / size).ravel())
                lines.append(f"{label} {numbers}\n")
        write_whole(target, "".join(lines).encode())


def one_walk(pieces: Sequence[Polygon]) -> NDArray[np.int32]:
    """All rings of a mask as one closed line [V, 2] that goes to each and comes back on the same way."""
    first, *others = [ring for piece in pieces for ring in (piece.outer, *piece.holes)]
    walk = [first]
    for ring in others:
        walk += [first[:1], ring, ring[:1]]  # from the walk's beginning to the ring, round it, and back
    return np.concatenate([*walk, first[:1]]) if others else first

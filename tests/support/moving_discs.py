# SPDX-License-Identifier: Apache-2.0
"""Frames of a video in which discs move, and what a perfect network finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.sources.source import Frame

FRAME_HW = (240, 320)
NAMES = ("ball", "coin")
FPS = 25


class Disc(NamedTuple):
    x: float  # of the centre at the time 0, pixels
    y: float
    vx: float  # pixels per second
    vy: float
    radius: float
    label: int = 0
    score: float = 0.9

    def at(self, time_s: float) -> tuple[float, float]:
        return self.x + self.vx * time_s, self.y + self.vy * time_s


def moment(index: int, time_s: float | None = None, image: np.ndarray | None = None) -> Frame:
    """A frame for a tracker, which looks at its time alone."""
    return Frame(np.zeros((*FRAME_HW, 3), np.uint8) if image is None else image, f"clip_{index:06d}", index, time_s)


def seen(discs: Sequence[Disc], time_s: float, frame_hw: tuple[int, int] = FRAME_HW) -> Instances:
    """The discs at a time, in the order in which they are given; all of them inside the frame."""
    rows, columns = np.mgrid[: frame_hw[0], : frame_hw[1]] + 0.5
    rects, crops, boxes = [], [], []
    for disc in discs:
        x, y = disc.at(time_s)
        box = x - disc.radius, y - disc.radius, x + disc.radius, y + disc.radius
        x0, y0, x1, y1 = (max(int(np.floor(edge)), 0) for edge in box)
        x1, y1 = min(x1 + 1, frame_hw[1]), min(y1 + 1, frame_hw[0])
        inside = (columns - x) ** 2 + (rows - y) ** 2 <= disc.radius**2
        rects.append((x0, y0, x1, y1))
        crops.append(inside[y0:y1, x0:x1])
        boxes.append(np.clip(box, 0, (frame_hw[1], frame_hw[0]) * 2))
    return Instances(
        frame_hw,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([disc.score for disc in discs], np.float32),
        np.array([disc.label for disc in discs], np.int32),
        BoxMasks.from_crops(frame_hw, np.array(rects, np.int32).reshape(-1, 4), crops),
        NAMES,
        (1, 2),
    )

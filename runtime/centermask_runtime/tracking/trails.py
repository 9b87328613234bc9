# SPDX-License-Identifier: Apache-2.0
"""What is drawn of objects over time: the way that each has come, the zones and lines, and their counts.

A trail goes through the middle of the lower edges of an object's boxes, in the colour of its id, and is as long as the
object needed `trail_s` seconds for. Where an object was missing it is straight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.arguments import number
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import FONT, PALETTE_BGR
from centermask_runtime.sources.source import Frame
from centermask_runtime.tracking.counting import Counts
from centermask_runtime.tracking.regions import Point, anchors

REGION_BGR = (255, 255, 255)
EDGE_BGR = (40, 40, 40)  # under what is white, so that it is seen on white
SUBPIXELS = 4  # bits
USUAL_FPS = 25.0
LONGEST_TRAIL_S = 3600.0
Spot = tuple[float, float, float]  # time in seconds, x, y


class Trails:
    """The ways of the objects of one video, frame after frame.

    trails = Trails(2.0)
    trails.add(frame, instances)
    trails.draw(picture)
    """

    def __init__(self, trail_s: float = 2.0, fps: float = USUAL_FPS) -> None:
        """trail_s: how long a trail is, in seconds; 0 for none. fps: of frames without a time. Raises UsageError."""
        self.trail_s = number("trail", trail_s, 0, LONGEST_TRAIL_S)
        self._fps = fps
        self._spots: dict[int, deque[Spot]] = {}
        self._time_s = 0.0
        self._frame_hw: tuple[int, int] | None = None

    def add(self, frame: Frame, instances: Instances) -> None:
        """Takes the places of the tracked objects in the next frame."""
        time_s = frame.index / self._fps if frame.time_s is None else frame.time_s
        if time_s < self._time_s or instances.frame_hw != self._frame_hw:
            self._spots.clear()
        self._time_s, self._frame_hw = time_s, instances.frame_hw
        ids = [] if instances.ids is None else instances.ids.tolist()
        for track_id, (x, y) in zip(ids, anchors(instances.boxes, "bottom").tolist(), strict=False):
            if track_id >= 0 and self.trail_s:
                self._spots.setdefault(track_id, deque()).append((time_s, x, y))
        for track_id, spots in list(self._spots.items()):
            while spots and spots[0][0] < time_s - self.trail_s:
                spots.popleft()
            if not spots:
                del self._spots[track_id]

    def points(self, track_id: int) -> list[Point]:
        """The trail of a track, from its oldest point to its newest."""
        return [(x, y) for _, x, y in self._spots.get(track_id, ())]

    def draw(self, picture: NDArray[np.uint8]) -> None:
        """Draws the trails onto a picture uint8 [H, W, 3]."""
        thickness = max(round(min(picture.shape[:2]) / 300), 1)
        for track_id in self._spots:
            way = _fixed(self.points(track_id))
            colour = PALETTE_BGR[track_id % len(PALETTE_BGR)]
            cv2.polylines(picture, [way], False, colour, thickness, cv2.LINE_AA, SUBPIXELS)


def draw_regions(picture: NDArray[np.uint8], counts: Sequence[Counts]) -> None:
    """Draws zones and lines with what was counted there onto a picture uint8 [H, W, 3]. An arrow shows what is in."""
    unit = max(round(min(picture.shape[:2]) / 400), 1)
    for one in counts:
        points = one.region.points
        for colour, thickness in ((EDGE_BGR, 3 * unit), (REGION_BGR, unit)):
            cv2.polylines(
                picture, [_fixed(points)], one.region.kind == "zone", colour, thickness, cv2.LINE_AA, SUBPIXELS
            )
            if one.region.kind == "line":
                start, tip = (tuple(_fixed([end])[0].tolist()) for end in _arrow(points[0], points[1], 12.0 * unit))
                cv2.arrowedLine(picture, start, tip, colour, thickness, cv2.LINE_AA, SUBPIXELS, 0.4)
        numbers = f"in {one.came_in.total()} out {one.went_out.total()}"
        if one.region.kind == "zone":
            numbers = f"{one.inside.total()} inside, {numbers}"
        _write(picture, f"{one.region.name}: {numbers}", points)


def _write(picture: NDArray[np.uint8], text: str, points: Sequence[Point]) -> None:
    """At the highest point, inside the picture. OpenCV's fonts are ASCII's.

    The edge is the text itself, moved around: letters that are drawn thicker are also wider.
    """
    text = text.encode("ascii", "replace").decode()
    height, width = picture.shape[:2]
    scale = min(max(min(height, width) / 1000, 0.4), 2.0)
    thickness = max(round(scale * 1.6), 1)
    (across, up), below = cv2.getTextSize(text, FONT, scale, thickness)
    x, y = min(points, key=lambda point: point[1])
    left = round(min(max(x - across / 2, 0), max(width - across, 0)))
    line = round(min(max(y - below - 4 * scale, up), height - below))
    around = [(dx, dy) for dx in (-thickness, 0, thickness) for dy in (-thickness, 0, thickness) if dx or dy]
    for colour, moves in ((EDGE_BGR, around), (REGION_BGR, [(0, 0)])):
        for dx, dy in moves:
            cv2.putText(picture, text, (left + dx, line + dy), FONT, scale, colour, thickness, cv2.LINE_AA)


def _arrow(a: Point, b: Point, length: float) -> tuple[Point, Point]:
    """From the middle of a line to its left hand, where what comes in goes."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    whole = max(float(np.hypot(dx, dy)), 1e-9)
    middle = (a[0] + b[0]) / 2, (a[1] + b[1]) / 2
    return middle, (middle[0] + dy / whole * length, middle[1] - dx / whole * length)


def _fixed(points: Sequence[Point]) -> NDArray[np.int32]:
    """Continuous pixels -> OpenCV's, whose whole numbers are centres, with SUBPIXELS bits after the point."""
    return np.asarray(np.round((np.array(points, np.float64) - 0.5) * (1 << SUBPIXELS)), np.int32)

# SPDX-License-Identifier: Apache-2.0
"""Regions of a frame in which objects are counted: zones, which are areas, and lines, which are crossed.

An object is where its anchor is, a point of its box: the middle of the lower edge ("bottom", where a person or a car
stands), or the centre ("centre"). Coordinates are continuous pixels, as everywhere.

- A zone holds its left and upper edges and not the right and lower ones, so a point on the border of two neighbouring
  zones is in exactly one of them.
- A line goes from one point to another. Who walks from the first to the second has what comes "in" coming from the
  right hand to the left. Its ends belong to it; what goes around them does not cross it.

The zones of `supervision` are not taken: its polygons are rounded to whole pixels, and its lines lose an object that is
missing for two frames and count one that goes around an end.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError, UsageError, did_you_mean, some

Point = tuple[float, float]
Anchor = Literal["bottom", "centre"]
Kind = Literal["zone", "line"]


@dataclass(frozen=True)
class Region:
    """A zone or a line. Its points are those of a checked file or of a caller; regions_of checks them."""

    name: str
    kind: Kind
    points: tuple[Point, ...]  # of a zone its outline, of a line its two ends
    classes: tuple[str, ...] | None = None  # that it counts; None for all
    anchor: Anchor = "bottom"
    margin: float = 0.1  # of the shorter side of an object's box: how far beyond the border it has crossed it for good

    def scaled(self, across: float, down: float) -> Region:
        """The same region in a frame of another size."""
        return dataclasses.replace(self, points=tuple((x * across, y * down) for x, y in self.points))

    def labels(self, class_names: Sequence[str]) -> frozenset[int]:
        """The labels that it counts. Raises DataError for a class that is not the model's."""
        if self.classes is None:
            return frozenset(range(len(class_names)))
        for name in self.classes:
            if name not in class_names:
                raise DataError(
                    f"The {self.kind} '{self.name}' counts the class '{name}', which the model has not; "
                    f"{did_you_mean(name, class_names)}"
                )
        return frozenset(index for index, name in enumerate(class_names) if name in self.classes)

    def check_inside(self, frame_hw: tuple[int, int]) -> None:
        """Raises DataError where it reaches out of a frame of this height and width."""
        height, width = frame_hw
        outside = [f"({x:g}, {y:g})" for x, y in self.points if not (0 <= x <= width and 0 <= y <= height)]
        if outside:
            raise DataError(
                f"The {self.kind} '{self.name}' has points outside the frame of {width} x {height} pixels: "
                f"{some(outside)}; move them inside, or say by 'frame' for which size they are."
            )


def anchors(boxes: NDArray[np.float32], anchor: Anchor) -> NDArray[np.float64]:
    """Boxes [N, 4] xyxy -> points [N, 2]."""
    x1, y1, x2, y2 = boxes.astype(np.float64).T
    return np.stack(((x1 + x2) / 2, y2 if anchor == "bottom" else (y1 + y2) / 2), axis=1)


def contains(outline: Sequence[Point], point: Point) -> bool:
    """Whether a point is in a simple polygon, by the rule above for its border."""
    inside = False
    for a, b in zip(outline, (*outline[1:], outline[0]), strict=True):
        low, high = (a, b) if a[1] <= b[1] else (b, a)  # one order, so that neighbours round alike
        if low[1] <= point[1] < high[1] and side(low, high, point) > 0:
            inside = not inside
    return inside


def crossing(a: Point, b: Point, before: Point, now: Point) -> int:
    """How a step crosses the line from a to b: 1 in, to the left hand; -1 out; 0 not at all."""
    was_left, is_left = side(a, b, before) <= 0, side(a, b, now) <= 0
    if was_left == is_left or side(before, now, a) * side(before, now, b) > 0:
        return 0
    return 1 if is_left else -1


def side(a: Point, b: Point, point: Point) -> float:
    """Above 0 where the point is at the right hand of who walks from a to b, as seen on the screen; 0 on the way."""
    return (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])


def distance(a: Point, b: Point, point: Point) -> float:
    """From a point to the nearest one between a and b, in pixels."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    along = ((point[0] - a[0]) * dx + (point[1] - a[1]) * dy) / max(dx * dx + dy * dy, 1e-300)
    along = min(max(along, 0.0), 1.0)
    return math.hypot(point[0] - a[0] - along * dx, point[1] - a[1] - along * dy)


def border_distance(region: Region, point: Point) -> float:
    """From a point to the line, or to the outline of the zone, in pixels."""
    points = region.points
    if region.kind == "line":
        return distance(points[0], points[1], point)
    return min(distance(a, b, point) for a, b in zip(points, (*points[1:], points[0]), strict=True))


def check_shape(region: Region) -> None:
    """Raises UsageError where the points are no line and no outline that encloses something once."""
    what, points = f"The {region.kind} '{region.name}'", region.points
    if region.kind == "line":
        if len(points) != 2 or points[0] == points[1]:
            raise UsageError(f"{what} must have two different points, not {len(points)} points: one line per stretch.")
        return
    if len(set(points)) < 3:
        raise UsageError(f"{what} must have at least 3 different points, not {len(set(points))}.")
    edges = list(zip(points, (*points[1:], points[0]), strict=True))
    for first, (a, b) in enumerate(edges):
        for second in range(first + 1, len(edges)):
            c, d = edges[second]
            neighbours = second - first in (1, len(edges) - 1)
            if _fold(a, b, c, d) if neighbours else _meet(a, b, c, d):
                raise UsageError(
                    f"The outline of the zone '{region.name}' crosses or touches itself between edges {first + 1} and "
                    f"{second + 1}: give its points in order around it."
                )


def _meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether two stretches have a point in common."""
    ends = side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)
    if ends[0] * ends[1] < 0 and ends[2] * ends[3] < 0:
        return True
    touching = ((a, b, c, ends[0]), (a, b, d, ends[1]), (c, d, a, ends[2]), (c, d, b, ends[3]))
    return any(value == 0 and _within(one, other, point) for one, other, point, value in touching)


def _fold(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether two edges with an end in common lie on each other."""
    shared, one, other = (b, a, d) if b == c else (a, b, c)
    return side(one, shared, other) == 0 and (
        (one[0] - shared[0]) * (other[0] - shared[0]) + (one[1] - shared[1]) * (other[1] - shared[1]) > 0
    )


def _within(a: Point, b: Point, point: Point) -> bool:
    return min(a[0], b[0]) <= point[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= point[1] <= max(a[1], b[1])

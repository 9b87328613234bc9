# SPDX-License-Identifier: Apache-2.0
"""Does an outline cross itself? Only where two edges pass through each other.

Edges that touch in a point or run along each other, as in outlines of several parts joined by a bridge, do not cross.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = 256  # edges compared with all others at a time: bounds the memory of outlines of many points


def crosses_itself(polygon: NDArray[np.float64]) -> bool:
    """Says whether an outline [n, 2] of x and y in pixels crosses itself; its last point is joined to the first."""
    start = polygon[(polygon != np.roll(polygon, 1, axis=0)).any(1)]  # a point given twice is no edge
    if len(start) < 4:
        return False
    end = np.roll(start, -1, axis=0)
    for row in range(0, len(start), _ROWS):
        a, b = start[row : row + _ROWS, None], end[row : row + _ROWS, None]  # [r, 1, 2] against [n, 2]
        sides = _side(a, b, start) * _side(a, b, end), _side(start, end, a) * _side(start, end, b)
        if ((sides[0] < 0) & (sides[1] < 0)).any():
            return True
    return False


def _side(a: NDArray[np.float64], b: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """-1, 0 or 1: on which side of the line through a and b the point p is; 0 on it, up to rounding."""
    cross = (b[..., 0] - a[..., 0]) * (p[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (p[..., 0] - a[..., 0])
    return np.asarray(np.sign(np.where(np.abs(cross) < 1e-9, 0.0, cross)))

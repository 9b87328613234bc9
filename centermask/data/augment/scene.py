# SPDX-License-Identifier: Apache-2.0
"""Scene: a training canvas whose objects are in canvas pixels, for augmentations that join several source images.

A mask is sampled once, by affine.show_mask. Of an object that hardly shows the rest counts for the saliency alone: it
becomes a crowd, which targets.py makes no target of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from centermask.data.augment.affine import Affine, map_rects, show_mask
from centermask.data.dataset import ObjectMask
from centermask.data.segmentation import Rect
from centermask.data.targets import MIN_VISIBLE

IDENTITY: Affine = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])  # of a scene's objects


@dataclass(frozen=True)
class Scene:
    image: NDArray[np.uint8]  # [H, W, 3] BGR
    objects: list[ObjectMask]  # rects in canvas pixels, all inside the canvas


def show_objects(objects: Sequence[ObjectMask], affine: Affine, region: Rect) -> list[ObjectMask]:
    """Returns the objects as a region of the canvas shows them through `affine`, source pixels -> canvas pixels.

    One of which no pixel shows is left out.
    """
    return [shown for one in objects if (shown := _show(one, affine, region)) is not None]


def keep_visible(one: ObjectMask, seen: NDArray[np.bool_], whole: float) -> ObjectMask | None:
    """Returns an object with a new crop [h, w] in the place of its own, which had `whole` pixels before it was cut."""
    count = np.count_nonzero(seen)
    if not count:
        return None
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    x0, y0 = one.rect[:2]
    crop = np.ascontiguousarray(seen[top:bottom, left:right])
    crowd = bool(one.crowd or count < MIN_VISIBLE * whole)
    return replace(one, rect=(x0 + left, y0 + top, x0 + right, y0 + bottom), crop=crop, crowd=crowd)


def _show(one: ObjectMask, affine: Affine, region: Rect) -> ObjectMask | None:
    ends = np.ceil(map_rects(np.array([one.rect], np.float64), affine)[0] - 0.5)  # of the pixels whose centres show it
    x0, y0, x1, y1 = ends.clip(region[:2] * 2, region[2:] * 2).astype(int).tolist()
    seen = show_mask(one.crop, one.rect[:2], affine, (x0, y0, x1, y1))
    area = np.count_nonzero(one.crop) * abs(float(np.linalg.det(affine[:, :2])))
    return keep_visible(replace(one, rect=(x0, y0, x1, y1)), seen, area)

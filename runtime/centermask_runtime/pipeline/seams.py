# SPDX-License-Identifier: Apache-2.0
"""What the tiles of a frame saw -> objects of the frame: joined across seams, none of them twice.

    pixels    of an object's mask are those that tiles saw in their own cores (tiling.py). So one pixel is decided by
              one tile, and two objects have a pixel in common only where one tile saw both there.
    joining   what two neighbours side by side, or one above the other, saw in the part that they share is compared:
              two detections are one object where they have the same class and, of the pixels that they have in that
              part, at least SAME in common (intersection over union). The most alike are joined first; a detection has
              one partner per neighbour, and no object has two detections of one tile.
    object    its mask is the union of its detections' pixels, its score the highest of those that have any, and its box
              the smallest around their boxes, each cut to its core.
    alone     a detection that no neighbour confirms counts where the centre of its box is in its tile's core, and its
              mask ends at the seams.

An object longer than a tile is joined from as many as it crosses. An object is given out when no tile can add to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.tiling import Rect, Tile
from centermask_runtime.reference.overlap import mask_iou

SAME = 0.5  # IoU in what two tiles share, from which on two detections are one object


@dataclass
class _Seen:
    """What one tile saw."""

    tile: Tile
    found: Instances  # in the tile
    decided: Instances  # the same, cut to the core, in the frame
    owned: NDArray[np.bool_]  # [N] whether the centre of the box is in the core
    objects: list[_Object]  # of each detection the one that it began


@dataclass(eq=False)
class _Object:
    """Detections that are one object; where it was joined to another, that one has them."""

    detections: list[tuple[_Seen, int]]
    tiles: set[tuple[int, int]]
    last_row: int
    joined_to: _Object | None = field(default=None, repr=False)

    def now(self) -> _Object:
        one = self
        while one.joined_to is not None:
            one = one.joined_to
        return one

    def join(self, other: _Object) -> None:
        """Takes the other's detections, unless both have one of the same tile."""
        if self is other or self.tiles & other.tiles:
            return
        self.detections += other.detections
        self.tiles |= other.tiles
        self.last_row = max(self.last_row, other.last_row)
        other.detections, other.joined_to = [], self


class Seams:
    """Takes the rows of tiles of one frame in their order; of what they saw it keeps the last row, and open objects."""

    def __init__(self, frame_hw: tuple[int, int]) -> None:
        self._frame_hw = frame_hw
        self._above: list[_Seen] = []
        self._open: list[_Object] = []

    def add(self, row: Sequence[Tile], found: Sequence[Instances]) -> Instances:
        """The objects of the frame that are complete, now that these tiles saw this, each in tile coordinates."""
        seen = [self._seen(tile, instances) for tile, instances in zip(row, found, strict=True)]
        for left, right in itertools.pairwise(seen):
            _join(left, right)
        for above, below in zip(self._above, seen, strict=bool(self._above)):
            _join(above, below)
        number = row[0].row
        unjoined = [one for one in self._open + [o for each in seen for o in each.objects] if one.joined_to is None]
        self._open = [one for one in unjoined if one.last_row == number]
        self._above = seen
        return self._complete([one for one in unjoined if one.last_row < number], found[0])

    def rest(self, like: Instances) -> Instances:
        """The objects that are left after the last row. like: any Instances of the same classes."""
        left, self._open, self._above = self._open, [], []
        return self._complete(left, like)

    def _seen(self, tile: Tile, found: Instances) -> _Seen:
        x0, y0, _, _ = tile.rect
        left, top, right, bottom = tile.core
        in_core = found.moved((x0 - left, y0 - top), (bottom - top, right - left))
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 + (x0, y0)
        owned: NDArray[np.bool_] = np.all((centres >= (left, top)) & (centres < (right, bottom)), axis=1)
        seen = _Seen(tile, found, in_core.moved((left, top), self._frame_hw), owned, [])
        place = (tile.row, tile.column)
        seen.objects = [_Object([(seen, index)], {place}, tile.row) for index in range(len(found))]
        return seen

    def _complete(self, objects: Sequence[_Object], like: Instances) -> Instances:
        nothing = replace(like.select([]), frame_hw=self._frame_hw, masks=BoxMasks.empty(self._frame_hw))
        parts = [nothing]
        alone: dict[int, tuple[Instances, list[int]]] = {}
        for one in objects:
            (seen, index), *others = one.detections
            if others:
                parts += _joined(one.detections)
            elif seen.owned[index]:
                alone.setdefault(id(seen), (seen.decided, []))[1].append(index)
        parts += [decided.select(places) for decided, places in alone.values()]
        return Instances.concatenate(parts)


def _join(one: _Seen, other: _Seen) -> None:
    """Joins what two neighbours saw of the same objects."""
    rect = _common(one.tile.rect, other.tile.rect)
    shared = [_within(seen, rect) for seen in (one, other)]
    (places, labels, masks), (other_places, other_labels, other_masks) = shared
    iou = mask_iou(masks, other_masks) * (labels[:, None] == other_labels[None])
    rows, columns = np.nonzero(iou >= SAME)
    best_first = np.argsort(-iou[rows, columns], kind="stable")
    taken: set[int] = set()
    other_taken: set[int] = set()
    for row, column in zip(rows[best_first].tolist(), columns[best_first].tolist(), strict=True):
        if row not in taken and column not in other_taken:
            taken.add(row)
            other_taken.add(column)
            one.objects[places[row]].now().join(other.objects[other_places[column]].now())


def _within(seen: _Seen, rect: Rect) -> tuple[NDArray[np.intp], NDArray[np.int32], BoxMasks]:
    """What a tile saw inside a part of the frame: places of the detections, their labels, their masks in that part."""
    x0, y0, x1, y1 = rect
    left, top, _, _ = seen.tile.rect
    masks = seen.found.masks.moved((left - x0, top - y0), (y1 - y0, x1 - x0))
    places = np.flatnonzero(masks.rects[:, 2] > masks.rects[:, 0])
    return places, seen.found.labels[places], masks.select(places)


def _joined(detections: Sequence[tuple[_Seen, int]]) -> list[Instances]:
    """One object of several detections; none where all of its pixels lie in cores of tiles that did not see them."""
    parts = [seen.decided.select([index]) for seen, index in detections]
    parts = [part for part in parts if part.masks.areas()[0]]
    if len(parts) < 2:
        return parts
    rects = np.concatenate([part.masks.rects for part in parts])
    (x0, y0), (x1, y1) = rects[:, :2].min(axis=0).tolist(), rects[:, 2:].max(axis=0).tolist()
    mask = np.zeros((y1 - y0, x1 - x0), np.bool_)
    for part, (left, top, right, bottom) in zip(parts, rects.tolist(), strict=True):
        mask[top - y0 : bottom - y0, left - x0 : right - x0] |= part.masks.crop(0)
    boxes = np.concatenate([part.boxes for part in parts])
    box = np.concatenate((boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)))[None]
    best = max(parts, key=lambda part: float(part.scores[0]))
    masks = BoxMasks.from_crops(best.frame_hw, np.array([[x0, y0, x1, y1]], np.int32), [mask])
    return [replace(best, boxes=box, masks=masks)]


def _common(one: Rect, other: Rect) -> Rect:
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])

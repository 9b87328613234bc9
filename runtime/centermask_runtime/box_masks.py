# SPDX-License-Identifier: Apache-2.0
"""BoxMasks: masks stay small, one bit-packed crop per object; whole frames, polygons and run lengths on demand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime import arguments
from centermask_runtime.errors import DataError
from centermask_runtime.reference import rle
from centermask_runtime.reference.polygons import Polygon, polygons_of


@dataclass(frozen=True, eq=False)
class BoxMasks:
    """N binary masks as crops of one frame.

    rects   int32 [N, 4]: x0, y0, x1, y1 in whole source pixels, in the frame; an empty mask has x0 == x1 or y0 == y1.
    packed  N arrays uint8 [h, ceil(w / 8)]: rows of bits, little bit order (bit i of byte b is pixel 8 b + i).
    runs    N arrays of COCO run lengths down the columns of the frame, as reference/rle.py has them, where whoever made
            the masks made these too; None where they are still to be counted.
    """

    frame_hw: tuple[int, int]
    rects: NDArray[np.int32]
    packed: tuple[NDArray[np.uint8], ...]
    runs: tuple[NDArray[np.integer], ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_hw", arguments.frame_size(self.frame_hw))
        if not isinstance(self.packed, tuple):
            raise DataError(f"packed must be a tuple of arrays, not {type(self.packed).__name__}: use from_crops.")
        arguments.check_array("rects", self.rects, "iu", (len(self.packed), 4))
        low, high, (height, width) = self.rects[:, :2], self.rects[:, 2:], self.frame_hw
        if ((low < high).all(axis=1) & ((low < 0) | (high > (width, height))).any(axis=1)).any():
            raise DataError(f"A mask lies outside its frame of {width} x {height}: cut its rectangle to the frame.")

    def __len__(self) -> int:
        return len(self.packed)

    def __repr__(self) -> str:
        return f"BoxMasks({len(self)} in {self.frame_hw[1]} x {self.frame_hw[0]})"

    @classmethod
    def from_crops(
        cls, frame_hw: tuple[int, int], rects: NDArray[np.int32], crops: Sequence[NDArray[np.bool_]]
    ) -> BoxMasks:
        """Masks bool [h, w] of each rectangle. Raises DataError where one has another size than its rectangle."""
        for rect, crop in zip(rects.tolist(), crops, strict=True):
            width, height = max(rect[2] - rect[0], 0), max(rect[3] - rect[1], 0)
            if crop.shape != (height, width):
                raise DataError(f"A mask of {list(crop.shape)} was given for the rectangle {rect}: cut it to that.")
        return cls(frame_hw, rects, tuple(np.packbits(crop, axis=1, bitorder="little") for crop in crops))

    @classmethod
    def empty(cls, frame_hw: tuple[int, int]) -> BoxMasks:
        """No masks of a frame."""
        return cls(frame_hw, np.zeros((0, 4), np.int32), ())

    def crop(self, index: int) -> NDArray[np.bool_]:
        """Mask `index` inside its rectangle, bool [h, w]; -1 is the last. Raises UsageError where there is none."""
        index = arguments.place(index, len(self))
        x0, y0, x1, y1 = (int(edge) for edge in self.rects[index])
        if x1 <= x0 or y1 <= y0:
            return np.zeros((max(y1 - y0, 0), max(x1 - x0, 0)), np.bool_)
        return np.unpackbits(self.packed[index], axis=1, count=x1 - x0, bitorder="little").view(np.bool_)

    def canvas(self, index: int) -> NDArray[np.bool_]:
        """Mask `index` on the whole frame, bool [H, W]."""
        index, full = arguments.place(index, len(self)), np.zeros(self.frame_hw, np.bool_)
        x0, y0, x1, y1 = self.rects[index]
        full[y0:y1, x0:x1] = self.crop(index)
        return full

    def canvases(self) -> NDArray[np.bool_]:
        """All masks on the whole frame, bool [N, H, W]. N full frames of memory: ask only when needed."""
        full = np.zeros((len(self), *self.frame_hw), np.bool_)
        for canvas, (x0, y0, x1, y1), index in zip(full, self.rects, range(len(self)), strict=True):
            canvas[y0:y1, x0:x1] = self.crop(index)
        return full

    def areas(self) -> NDArray[np.int64]:
        """Pixels in each mask, int64 [N]."""
        return np.array([int(self.crop(i).sum()) for i in range(len(self))], np.int64)

    def rles(self) -> list[dict[str, Any]]:
        """COCO run lengths, equal byte for byte to pycocotools.mask.encode of the canvases (counts as str)."""
        if self.runs is not None:
            size = list(self.frame_hw)
            return [{"size": size, "counts": rle.encode_counts(runs.astype(np.int64))} for runs in self.runs]
        return [rle.encode_crop(self.crop(i), self.rects[i], self.frame_hw) for i in range(len(self))]

    def polygons(self) -> list[list[Polygon]]:
        """The pieces of each mask, with their holes, along the edges of its pixels: exact, by reference/polygons.py.

        A piece has `outer`, int32 [V, 2] x, y in the frame, and `holes`, rings of the same kind.

            for piece in masks.polygons()[0]:
                print(piece.outer.tolist(), [hole.tolist() for hole in piece.holes])
        """
        corners = [(int(x0), int(y0)) for x0, y0, _, _ in self.rects]
        return [polygons_of(self.crop(i), corners[i]) for i in range(len(self))]

    def select(self, keep: Any) -> BoxMasks:
        """The masks at these places, in that order; `keep` is what Instances.select takes. Raises UsageError."""
        keep = arguments.places(keep, len(self))
        runs = None if self.runs is None else tuple(self.runs[i] for i in keep)
        return BoxMasks(self.frame_hw, self.rects[keep], tuple(self.packed[i] for i in keep), runs)

    def moved(self, offset_xy: tuple[int, int], frame_hw: tuple[int, int]) -> BoxMasks:
        """The masks in another frame, in which the origin of this one lies at offset_xy. What is outside is cut off."""
        (height, width), (right, down) = arguments.frame_size(frame_hw), arguments.whole_offset(offset_xy)
        rects = self.rects.astype(np.int64) + np.array((right, down, right, down))
        inside = np.clip(rects, 0, (width, height, width, height))
        inside[(inside[:, 0] >= inside[:, 2]) | (inside[:, 1] >= inside[:, 3])] = 0
        packed = list(self.packed)
        for index in np.flatnonzero((inside != rects).any(axis=1)).tolist():
            (left, top, _, _), (x0, y0, x1, y1) = rects[index].tolist(), inside[index].tolist()
            part = (
                self.crop(index)[y0 - top : y1 - top, x0 - left : x1 - left] if x1 > x0 else np.zeros((0, 0), np.bool_)
            )
            packed[index] = np.packbits(part, axis=1, bitorder="little")
        return BoxMasks(frame_hw, inside.astype(np.int32), tuple(packed))

    @classmethod
    def concatenate(cls, parts: Iterable[BoxMasks]) -> BoxMasks:
        """The masks of several parts of one frame, part after part. Raises UsageError, DataError."""
        parts = arguments.parts_of(BoxMasks, parts)
        if any(part.frame_hw != parts[0].frame_hw for part in parts):
            raise DataError("Masks can be joined only with the same frame_hw: move them first.")
        runs = [part.runs for part in parts]
        ready = tuple(one for each in runs if each is not None for one in each)
        packed = tuple(one for part in parts for one in part.packed)
        rects = np.concatenate([part.rects for part in parts])
        return cls(parts[0].frame_hw, rects, packed, None if None in runs else ready)

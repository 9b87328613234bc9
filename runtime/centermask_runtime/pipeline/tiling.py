# SPDX-License-Identifier: Apache-2.0
"""How a large frame is cut into tiles, and which tile decides which pixel.

    tile      a square of the frame; the network sees it as it sees a frame, so a tile of the network's own input size
              is not scaled. A frame narrower or lower than a tile has tiles of its own width or height.
    overlap   what neighbours share, at least. Tiles stand at equal distances from edge to edge, all of one size, so
              most frames have a little more of it.
    seam      the middle of what two neighbours share.
    core      the part of a tile between its seams, or between a seam and the frame's edge. Cores do not overlap and
              cover the frame: each pixel is decided by one tile, and that tile saw at least half the overlap around it.

A frame that fits into one tile has one tile, the frame itself: the result is that without tiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from centermask_runtime.arguments import LONGEST_SIDE, short, whole
from centermask_runtime.errors import UsageError

SMALLEST_TILE = 32  # pixels
OVERLAP_PART = 8  # of a tile is shared unless it is said how much

Rect = tuple[int, int, int, int]  # x0, y0, x1, y1 in whole pixels of the frame


@dataclass(frozen=True)
class Tile:
    """A part of a frame that the network sees at once."""

    row: int
    column: int
    rect: Rect  # what the network sees
    core: Rect  # what this tile decides, inside rect

    @property
    def hw(self) -> tuple[int, int]:
        x0, y0, x1, y1 = self.rect
        return y1 - y0, x1 - x0


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size for frames of any size."""

    tile: int  # side in pixels of the frame
    overlap: int  # least that neighbours share, in the same pixels

    @classmethod
    def of(cls, tile: int | None, overlap: int | None = None) -> Tiling | None:
        """From a user's words; None where no tiles are asked for. overlap None is an eighth of the tile.

        Raises UsageError for another kind of number, for an overlap of more than half the tile, and without a tile.

        >>> Tiling.of(512)
        Tiling(tile=512, overlap=64)
        """
        if tile is None:
            if overlap is not None:
                raise UsageError(f"An overlap of {short(overlap)} was given, but no tile: give the tile's side, too.")
            return None
        side = whole("tile", tile, SMALLEST_TILE, LONGEST_SIDE)
        shared = side // OVERLAP_PART if overlap is None else whole("overlap", overlap, 1, LONGEST_SIDE)
        if shared > side // 2:
            raise UsageError(
                f"overlap must be at most half the tile, {side // 2} of {side} pixels, not {shared}: give less overlap "
                "or larger tiles."
            )
        return cls(side, shared)

    def rows(self, frame_hw: tuple[int, int]) -> Iterator[list[Tile]]:
        """The tiles of a frame, row after row from the top, each from the left."""
        across = self._spans(frame_hw[1])
        for row, (y0, y1, top, bottom) in enumerate(self._spans(frame_hw[0])):
            yield [
                Tile(row, column, (x0, y0, x1, y1), (left, top, right, bottom))
                for column, (x0, x1, left, right) in enumerate(across)
            ]

    def count(self, frame_hw: tuple[int, int]) -> int:
        """How many tiles a frame has."""
        return len(self._spans(frame_hw[0])) * len(self._spans(frame_hw[1]))

    def _spans(self, side: int) -> list[tuple[int, int, int, int]]:
        """Of each tile along one side of a frame: its first pixel and its end, and those of its core."""
        if side <= self.tile:
            return [(0, side, 0, side)]
        count = -(-(side - self.overlap) // (self.tile - self.overlap))
        starts = np.linspace(0, side - self.tile, count).round().astype(int).tolist()
        seams = [(after + start + self.tile) // 2 for start, after in itertools.pairwise(starts)]
        return [
            (start, start + self.tile, *core)
            for start, core in zip(starts, itertools.pairwise((0, *seams, side)), strict=True)
        ]

# SPDX-License-Identifier: Apache-2.0
"""TiledPipeline: a pipeline for frames that are too large for one look, around the pipeline that looks at a tile."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.images import check_frame
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.frame import AnyFrame, FramePipeline, StageTimes, as_bgr
from centermask_runtime.pipeline.seams import Seams
from centermask_runtime.pipeline.tiling import Rect, Tile, Tiling
from centermask_runtime.reference.nv12 import Nv12Frame
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw
from centermask_runtime.selection import Selection, SelectionWords
from centermask_runtime.spec import ModelSpec
from centermask_runtime.tiff_windows import TiffWindows

TOGETHER = 8  # tiles that are in memory at once
PART_SCORE = 0.5  # of the score threshold is enough in a tile: a part of an object may score lower than the whole
NO_LIMIT = sys.maxsize


def tiled_selections(spec: ModelSpec, words: SelectionWords) -> tuple[Selection, Selection]:
    """What is kept of a frame, and of a tile of it: K objects per tile, and per frame only as many as were asked for.

    Raises UsageError.
    """
    asked = Selection.of(spec, **words)
    frame = asked if words.get("max_det") is not None else replace(asked, max_detections=NO_LIMIT)
    return frame, replace(asked, score_threshold=asked.score_threshold * PART_SCORE, max_detections=spec.max_detections)


class TiledPipeline(Closing):
    """A FramePipeline that looks at a frame tile by tile and joins what it sees, as tiling.py and seams.py say.

    It owns the pipeline of the tiles and closes it. A frame that fits into one tile goes through that one as it is.

        frame, tile = tiled_selections(network.spec, {"conf": 0.3})
        with TiledPipeline(Pipeline(network, tile), Tiling(512, 64), frame) as pipeline:
            found = pipeline(picture)  # of 20,000 x 20,000 pixels, or of any size
    """

    draws = False

    def __init__(self, pipeline: FramePipeline, tiling: Tiling, selection: Selection) -> None:
        """pipeline: with the selection for tiles. selection: what is kept of the joined objects."""
        self.pipeline, self.tiling = pipeline, tiling
        self.spec, self.selection = pipeline.spec, selection

    @property
    def description(self) -> str:
        """The network's back end and device, and the tiles, in words."""
        return f"{self.pipeline.description}, tiles of {self.tiling.tile} that share {self.tiling.overlap}"

    @property
    def has_limit(self) -> bool:
        """Whether only the best objects of a frame are wanted."""
        return self.selection.max_detections < NO_LIMIT

    def __call__(self, frame: AnyFrame | TiffWindows) -> Instances:
        """What is in one frame, best first."""
        best: list[Instances] = []
        for part in self.parts(frame):
            best.append(part)
            if self.has_limit:
                best = [self._best(best)]
        return self._best(best)

    def parts(self, frame: AnyFrame | TiffWindows) -> Iterator[Instances]:
        """What is in one frame, part after part from the top, each when no later tile can add to its objects.

        All parts have the frame's coordinates; together they are what a call gives, without the limit of the number of
        objects per frame. So no more is in memory than a few tiles and what their row showed.
        """
        if isinstance(frame, Nv12Frame):
            frame = as_bgr(frame)
        if isinstance(frame, TiffWindows):
            frame_hw, frame.values = frame.frame_hw, self.spec.values
        else:
            check_frame(frame)
            frame_hw = frame.shape[0], frame.shape[1]
        seams = Seams(frame_hw)
        seen: list[Instances] = []
        for row in self.tiling.rows(frame_hw):
            seen = self._look(frame, row)
            yield self._kept(seams.add(row, seen))
        yield self._kept(seams.rest(seen[0]))

    def each(self, frames: Iterable[AnyFrame], *, ahead: bool = False) -> Iterator[Instances]:
        """What is in each frame, in their order: one is under way at a time."""
        return map(self, frames)

    def many(self, frames: Sequence[AnyFrame]) -> list[Instances]:
        """What is in each frame; the tiles of one frame go through the network together where its batch allows."""
        return [self(frame) for frame in frames]

    def timed(self, frame: AnyFrame) -> tuple[Instances, StageTimes | None]:
        """What is in one frame; times of stages are not taken, as tiles go through them together."""
        return self(frame), None

    def drawn(
        self, frames: Iterable[AnyFrame], style: DrawStyle = DEFAULT_STYLE
    ) -> Iterator[tuple[Instances, NDArray[np.uint8]]]:
        """What is in each frame, and a picture uint8 [H, W, 3] BGR of it, in their order."""
        for frame in frames:
            found = self(frame)
            yield found, draw(as_bgr(frame), found, style)

    def close(self) -> None:
        """Closes the pipeline of the tiles."""
        self.pipeline.close()

    def _look(self, frame: NDArray[np.uint8] | TiffWindows, row: Sequence[Tile]) -> list[Instances]:
        found: list[Instances] = []
        for first in range(0, len(row), TOGETHER):
            found += self.pipeline.many([_window(frame, tile.rect) for tile in row[first : first + TOGETHER]])
        return found

    def _kept(self, objects: Instances) -> Instances:
        return objects.select(objects.scores >= np.float32(self.selection.score_threshold))

    def _best(self, parts: Sequence[Instances]) -> Instances:
        return Instances.concatenate(parts).best_first().select(slice(self.selection.max_detections))


def _window(frame: NDArray[np.uint8] | TiffWindows, rect: Rect) -> NDArray[np.uint8]:
    if isinstance(frame, TiffWindows):
        return frame.window(rect)
    x0, y0, x1, y1 = rect
    return frame[y0:y1, x0:x1]

# SPDX-License-Identifier: Apache-2.0
"""What a tracked video has more than another: trails, zones and lines on its pictures, and a file of counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.sinks.sink import FileSink, Sink
from centermask_runtime.sources.source import Frame
from centermask_runtime.tracking.by_source import BySource
from centermask_runtime.tracking.counting import Counting
from centermask_runtime.tracking.regions_file import Regions
from centermask_runtime.tracking.trails import USUAL_FPS, Trails, draw_regions


@dataclass(frozen=True)
class Tracked:
    """What is drawn and counted of tracks."""

    regions: Regions | None = None
    trail_s: float = 2.0  # 0 for no trails
    counts_every_s: float = 1.0  # of the source's time, from one row of counts.csv to the next; 0 for each frame
    fps: float = USUAL_FPS  # of frames without a time


class TrackedSink(FileSink):
    """A Sink that draws trails, zones, lines and counts on the pictures of another sink, which it closes."""

    def __init__(self, sink: Sink, tracked: Tracked, class_names: Sequence[str]) -> None:
        """sink: takes pictures. Raises UsageError, DataError."""
        assert sink.style is not None, "a sink without pictures has nothing to draw on"
        self.style: DrawStyle | None = sink.style
        self._sink = sink
        self._scenes = BySource(lambda frame: _Scene(tracked, frame, class_names))

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame's results, in the order of the frames; the picture itself is not changed."""
        assert self.style is not None
        drawn = draw(frame.image, instances, self.style) if picture is None else picture.copy()
        self._scenes.of(frame).draw(drawn, frame, instances)
        self._sink.add(frame, instances, drawn)

    @property
    def notes(self) -> list[str]:
        """What the other sink has to tell."""
        return getattr(self._sink, "notes", [])

    def close(self) -> None:
        self._sink.close()

    def discard(self) -> None:
        self._sink.discard()


class _Scene:
    """Trails and counts of one source."""

    def __init__(self, tracked: Tracked, frame: Frame, class_names: Sequence[str]) -> None:
        declared = None if frame.source is None else frame.source.fps
        self._trails = Trails(tracked.trail_s, float(declared) if declared else tracked.fps)
        self._counting = None if tracked.regions is None else Counting(tracked.regions, class_names)

    def draw(self, picture: NDArray[np.uint8], frame: Frame, instances: Instances) -> None:
        self._trails.add(frame, instances)
        self._trails.draw(picture)
        if self._counting is not None:
            draw_regions(picture, self._counting.add(frame, instances))

# SPDX-License-Identifier: Apache-2.0
"""What was counted in zones and on lines, over time, as one CSV file.

    time_s,frame,name,kind,class,in,out,inside,seen
    12.000,300,exit,line,car,7,2,,
    12.000,300,car park,zone,car,9,4,5,11

There are rows at the first frame, at the first one of each further second of the source's time, and at the last one;
`every_s` sets another step, and 0 is each frame, as with frames without times. At each there is a row per region and
class of which anything was counted there so far, or one without a class and with zeros. `in`, `out` and `seen` are sums
from the beginning on, `inside` is of this frame; sums over the rows of a region are sums over its classes.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.arguments import number
from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.sink import refuse_to_overwrite_frame
from centermask_runtime.sources.source import Frame
from centermask_runtime.tracking.counting import Counting, Counts
from centermask_runtime.tracking.regions_file import Regions

HEADER = ("time_s", "frame", "name", "kind", "class", "in", "out", "inside", "seen")


class CountsSink(AllOrNothing):
    """A Sink that counts and writes one CSV file: leaving its `with` block finishes it, by an error removes it."""

    def __init__(self, path: str | Path, regions: Regions, class_names: Sequence[str], *, every_s: float = 1.0) -> None:
        """Raises UsageError when the file cannot be written, DataError for a class that is not in class_names."""
        self.style: DrawStyle | None = None  # it takes no picture
        self._every_s = number("every_s", every_s, 0, 86_400)
        self._counting, self._names = Counting(regions, class_names), tuple(class_names)
        self._file = PartialFile(path)
        self._text = self._file.partial.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._rows.writerow(HEADER)
        self._step: int | None = None
        self._last: Frame | None = None  # whose counts are not written yet

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """Counts one frame's instances. Raises DataError, UsageError, CenterMaskError."""
        refuse_to_overwrite_frame(frame, self._file.path)
        counts = self._counting.add(frame, instances)
        step = None
        if frame.time_s is not None and self._every_s:
            step = math.floor(frame.time_s / self._every_s + 1e-6)
        self._last = frame
        if step is None or step != self._step:
            self._write(counts)
        self._step = step

    def _write(self, counts: Sequence[Counts]) -> None:
        frame, self._last = self._last, None
        assert frame is not None
        time_s = "" if frame.time_s is None else f"{frame.time_s:.3f}"
        try:
            for one in counts:
                zone = one.region.kind == "zone"
                start = (time_s, frame.index, one.region.name, one.region.kind)
                for label in one.labels:
                    zone_only = (one.inside[label], one.seen[label]) if zone else ("", "")
                    self._rows.writerow(
                        (*start, self._names[label], one.came_in[label], one.went_out[label], *zone_only)
                    )
                if not one.labels:
                    self._rows.writerow((*start, "", 0, 0, *((0, 0) if zone else ("", ""))))
        except OSError as error:
            raise CenterMaskError(f"{self._file.path} cannot be written on: {error.strerror}.") from error

    def close(self) -> None:
        """Writes the last frame's rows, finishes the file and gives it its name."""
        try:
            if self._last is not None:
                self._write(self._counting.counts)
            self._text.close()
        except (OSError, CenterMaskError) as error:
            self.discard()
            raise CenterMaskError(f"{self._file.path} cannot be finished: {error}.") from error
        self._file.close()

    def discard(self) -> None:
        """Gives up: nothing stays on disk."""
        with suppress(OSError):
            self._text.close()
        self._file.discard()

# SPDX-License-Identifier: Apache-2.0
"""What was counted in zones and on lines, over time, as one CSV file.

    source,time_s,frame,name,kind,class,in,out,inside,seen
    clip,12.000,300,exit,line,car,7,2,,
    clip,12.000,300,car park,zone,car,9,4,5,11

There are rows at the first frame, at the first one of each further second of the source's time, and at the last one;
`every_s` sets another step, and 0 is each frame, as with frames without times. At each there is a row per region and
class of which anything was counted there so far, or one without a class and with zeros. `in`, `out` and `seen` are sums
from the beginning on, `inside` is of this frame; sums over the rows of a region are sums over its classes. `source` is
the name of the camera or video, empty for images: each is counted for itself.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.arguments import number
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.sink import FileSink, refuse_to_overwrite_frame
from centermask_runtime.sources.source import Frame
from centermask_runtime.tracking.by_source import BySource, source_name
from centermask_runtime.tracking.counting import Counting, Counts
from centermask_runtime.tracking.regions_file import Regions

HEADER = ("source", "time_s", "frame", "name", "kind", "class", "in", "out", "inside", "seen")


@dataclass
class _Counter:
    """The counting of one source."""

    counting: Counting
    step: int | None = None  # the number of its last frame's second


class CountsSink(FileSink):
    """A Sink that counts and writes one CSV file: leaving its `with` block finishes it, by an error removes it."""

    def __init__(self, path: str | Path, regions: Regions, class_names: Sequence[str], *, every_s: float = 1.0) -> None:
        """Raises UsageError when the file cannot be written, DataError for a class that is not in class_names."""
        self.style: DrawStyle | None = None  # it takes no picture
        self._every_s = number("every_s", every_s, 0, 86_400)
        regions.check_classes(class_names)
        self._names = tuple(class_names)
        self._counters = BySource(lambda frame: _Counter(Counting(regions, class_names)))
        self._file = PartialFile(path)
        self._text = self._file.partial.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._rows.writerow(HEADER)
        self._unwritten: dict[str, tuple[Frame, list[Counts]]] = {}  # by source, of its last frame

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """Counts one frame's instances. Raises DataError, UsageError, CenterMaskError."""
        refuse_to_overwrite_frame(frame, self._file.path)
        counter = self._counters.of(frame)
        counts = counter.counting.add(frame, instances)
        step = None
        if frame.time_s is not None and self._every_s:
            step = math.floor(frame.time_s / self._every_s + 1e-6)
        if step is None or step != counter.step:
            self._write(frame, counts)
            self._unwritten.pop(source_name(frame), None)
        else:
            self._unwritten[source_name(frame)] = frame, counts
        counter.step = step

    def _write(self, frame: Frame, counts: Sequence[Counts]) -> None:
        time_s = "" if frame.time_s is None else f"{frame.time_s:.3f}"
        try:
            for one in counts:
                zone = one.region.kind == "zone"
                start = (source_name(frame), time_s, frame.index, one.region.name, one.region.kind)
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
            for frame, counts in self._unwritten.values():
                self._write(frame, counts)
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

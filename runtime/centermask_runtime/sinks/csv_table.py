# SPDX-License-Identifier: Apache-2.0
"""Results as a CSV table: one row per object."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.json_lines import rounded
from centermask_runtime.sinks.sink import FileSink, refuse_to_overwrite_frame
from centermask_runtime.sinks.text_output import TextOutput
from centermask_runtime.sources.source import Frame

COLUMNS = (
    "frame",  # its name
    "index",  # its number in the source, from 0
    "time_s",  # since the first frame of the video; empty for images
    "object",  # its place in the frame by falling score, from 1
    "track_id",  # empty where nobody tracks
    "name",  # of the class
    "category_id",  # of the class in the data set
    "score",
    "x1", "y1", "x2", "y2",  # box in pixels
    "area",  # pixels of the mask
)  # fmt: skip


class CsvSink(FileSink):
    """A Sink of one row per object, as RFC 4180 has them, below a row of COLUMNS. A frame without objects has none."""

    def __init__(self, path: str | Path | None) -> None:
        """path: None for the standard output. Raises UsageError when the file cannot be written."""
        self.style: DrawStyle | None = None
        self._output = TextOutput(path)
        try:
            self._output.write(_lines([COLUMNS]))
        except BaseException:
            self._output.discard()
            raise

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame's rows. Raises UsageError where the file is the frame's own, CenterMaskError when it fails."""
        if self._output.path is not None:
            refuse_to_overwrite_frame(frame, self._output.path)
        areas = instances.masks.areas().tolist()
        ids = [""] * len(instances) if instances.ids is None else instances.ids.tolist()
        rows = []
        for place, name in enumerate(instances.names):
            found_in = frame.name, frame.index, rounded(frame.time_s), place + 1, ids[place]
            category = instances.category_ids[instances.labels[place]]
            box = (round(edge, 3) for edge in instances.boxes[place].tolist())
            rows.append((*found_in, name, category, round(float(instances.scores[place]), 6), *box, areas[place]))
        self._output.write(_lines(rows))

    def close(self) -> None:
        """Finishes the file and gives it its name."""
        self._output.close()

    def discard(self) -> None:
        """Gives up: no file stays."""
        self._output.discard()


def _lines(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()

# SPDX-License-Identifier: Apache-2.0
"""Results as JSON lines: one per frame, with all objects and their masks as COCO run lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.sink import FileSink, refuse_to_overwrite_frame
from centermask_runtime.sinks.text_output import TextOutput
from centermask_runtime.sources.source import Frame


class JsonLinesSink(FileSink):
    """A Sink of one line per frame, which begins with the frame and goes on as Instances.to_json("rle").

        {"frame": "v_000007", "index": 7, "time_s": 0.28, "height": 480, "width": 640, "instances": [...]}

    time_s counts from the first frame of the video, and is null for images.
    """

    def __init__(self, path: str | Path | None) -> None:
        """path: None for the standard output. Raises UsageError when the file cannot be written."""
        self.style: DrawStyle | None = None
        self._output = TextOutput(path)

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame's line. Raises UsageError where the file is the frame's own, CenterMaskError when it fails."""
        if self._output.path is not None:
            refuse_to_overwrite_frame(frame, self._output.path)
        head: dict[str, Any] = {"frame": frame.name, "index": frame.index, "time_s": rounded(frame.time_s)}
        self._output.write(f"{json.dumps(head)[:-1]}, {instances.to_json('rle')[1:]}\n")

    def close(self) -> None:
        """Finishes the file and gives it its name."""
        self._output.close()

    def discard(self) -> None:
        """Gives up: no file stays."""
        self._output.discard()


def rounded(time_s: float | None) -> float | None:
    """Seconds to the microsecond."""
    return None if time_s is None else round(time_s, 6)

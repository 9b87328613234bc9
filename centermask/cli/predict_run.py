# SPDX-License-Identifier: Apache-2.0
"""What predict does with each frame: run the pipeline, draw, write. demo uses it too."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask.cli.tables import bar
from centermask_runtime.errors import DataError
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.frame import FramePipeline
from centermask_runtime.reference import overlay
from centermask_runtime.sinks.coco_json import CocoSink
from centermask_runtime.sinks.pictures import PictureSink
from centermask_runtime.sinks.video import VideoSink
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.video import VideoSource

RESULTS = "predictions.json"


@dataclass
class PredictSummary:
    output: Path
    frames: int = 0
    objects: int = 0
    times_ms: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def fps(self) -> float:
        """Frames a second at the median pipeline time: without reading, drawing and writing."""
        return 1e3 / statistics.median(self.times_ms) if self.times_ms else 0.0

    def run(self, pipeline: FramePipeline, image: NDArray[np.uint8]) -> Instances:
        """What is in the image, counted and timed."""
        start = time.perf_counter()
        instances = pipeline(image)
        self.times_ms.append((time.perf_counter() - start) * 1e3)
        self.frames += 1
        self.objects += len(instances)
        return instances

    def require_complete(self) -> None:
        """Raises DataError when inputs were skipped, after everything else has been done."""
        if len(self.skipped) == 1:
            raise DataError(self.skipped[0])
        if self.skipped:
            every = self.frames + len(self.skipped)
            raise DataError(f"{len(self.skipped)} of {every} inputs could not be read; the rest is in {self.output}.")

    def to_dict(self) -> dict[str, Any]:
        return {
            "output": str(self.output), "frames": self.frames, "objects": self.objects, "fps": round(self.fps, 2),
            "skipped": self.skipped,
        }  # fmt: skip


def free_folder(parent: Path, name: str) -> Path:
    """parent/name, or the first of parent/name2, name3, ... that is not there."""
    number = 1
    while (path := parent / (name if number == 1 else f"{name}{number}")).exists():
        number += 1
    return path


def predict_images(
    pipeline: FramePipeline, source: str, output: Path, save: bool = True, boxes: bool = True, labels: bool = True
) -> PredictSummary:
    """An image or a folder. One bad file in a folder does not stop the rest: it is listed in the summary."""
    summary = PredictSummary(output)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_source(source))
        summary.skipped = opened.skipped
        style = overlay.DrawStyle(boxes=boxes, labels=labels)
        pictures = PictureSink(output, opened.info, style) if save else None
        found = iter(opened)
        first = next(found)  # before the outputs: a source that cannot be read leaves none behind
        results = stack.enter_context(_results(pipeline, output / RESULTS))
        progress = stack.enter_context(bar())
        task = progress.add_task("predict", total=opened.info.count, note="")
        for frame in itertools.chain([first], found):
            instances = summary.run(pipeline, frame.image)
            results.add(frame, instances)
            if pictures is not None:
                pictures.add(frame, instances)
            progress.update(task, advance=1, note=f"{frame.name}: {len(instances)} objects")
    return summary


def predict_video(
    pipeline: FramePipeline, source: str, output: Path, save: bool = True, boxes: bool = True, labels: bool = True
) -> PredictSummary:
    """A video -> <stem>.mp4 and predictions.json. A damaged end is reported; what came before it is kept."""
    summary = PredictSummary(output)
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(VideoSource(source))
        summary.skipped = opened.skipped
        target, style = output / f"{opened.info.name}.mp4", overlay.DrawStyle(boxes=boxes, labels=labels)
        video = stack.enter_context(VideoSink(target, opened.info, style)) if save else None
        results = stack.enter_context(_results(pipeline, output / RESULTS))
        progress = stack.enter_context(bar())
        task = progress.add_task("predict", total=opened.info.count, note="")
        for frame in opened:
            instances = summary.run(pipeline, frame.image)
            results.add(frame, instances)
            if video is not None:
                video.add(frame, instances)
            progress.update(task, advance=1, note=f"{len(instances)} objects")
    return summary


def _results(pipeline: FramePipeline, path: Path) -> CocoSink:
    return CocoSink(path, pipeline.spec.class_names, pipeline.spec.category_ids)

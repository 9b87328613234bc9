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

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask.cli.tables import bar
from centermask_runtime.errors import CenterMaskError, DataError, UsageError
from centermask_runtime.images import image_files
from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import write_whole
from centermask_runtime.pipeline.frame import FramePipeline
from centermask_runtime.reference import overlay
from centermask_runtime.sinks.coco_json import CocoWriter
from centermask_runtime.sinks.video import VideoWriter
from centermask_runtime.sources.files import frames, video_info

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
    files = image_files(Path(source)) if Path(source).is_dir() else [Path(source)]
    if save:
        for path in files:
            _refuse_to_overwrite(path, picture_path(output / path.name))
    found = frames(source, on_skip=summary.skipped.append)
    first = next(found, None)
    if first is None:  # a source that cannot be read leaves no output behind
        count = len(summary.skipped)
        raise DataError(
            summary.skipped[0] if count == 1 else f"None of the {count} images in {source} could be read; check them."
        )
    with contextlib.ExitStack() as stack:
        results = stack.enter_context(_results(pipeline, output / RESULTS))
        progress = stack.enter_context(bar())
        task = progress.add_task("predict", total=len(files), note="")
        for frame in itertools.chain([first], found):
            instances = summary.run(pipeline, frame.image)
            results.add(instances, frame.name)
            if save:
                drawn = overlay.draw(frame.image, instances, boxes=boxes, labels=labels)
                write_picture(output / frame.name, drawn)
            progress.update(task, advance=1, note=f"{frame.name}: {len(instances)} objects")
    return summary


def predict_video(
    pipeline: FramePipeline, source: str, output: Path, save: bool = True, boxes: bool = True, labels: bool = True
) -> PredictSummary:
    """A video -> <stem>.mp4 and predictions.json. A damaged end is reported; what came before it is kept."""
    summary = PredictSummary(output)
    target = output / f"{Path(source).stem}.mp4"
    if save:
        _refuse_to_overwrite(Path(source), target)
    info = video_info(source)
    with contextlib.ExitStack() as stack:
        results = stack.enter_context(_results(pipeline, output / RESULTS))
        progress = stack.enter_context(bar())
        writer = stack.enter_context(VideoWriter(target, info.size_hw, info.fps)) if save else None
        task = progress.add_task("predict", total=info.count, note="")
        try:
            for frame in frames(source):
                if frame.image.shape[:2] != info.size_hw:
                    raise DataError(f"The video {source} changes its size at frame {frame.index}; cut it there.")
                instances = summary.run(pipeline, frame.image)
                results.add(instances, frame.name, time_s=frame.time_s)
                if writer is not None:
                    drawn = overlay.draw(frame.image, instances, boxes=boxes, labels=labels)
                    writer.write(drawn, frame.time_s)
                progress.update(task, advance=1, note=f"{len(instances)} objects")
        except DataError as error:
            if not summary.frames:
                raise
            summary.skipped.append(str(error))
    return summary


def picture_path(path: Path) -> Path:
    """Pictures are .png and .jpg; another kind keeps its name and becomes .png: a.bmp -> a.bmp.png."""
    return path if path.suffix.lower() in (".png", ".jpg", ".jpeg") else path.with_name(f"{path.name}.png")


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Writes it to picture_path(path)."""
    path = picture_path(path)
    done, content = cv2.imencode(path.suffix, picture)
    if not done:
        raise CenterMaskError(f"The picture {path} of {picture.shape[1]} x {picture.shape[0]} cannot be encoded.")
    write_whole(path, content.tobytes())


def _results(pipeline: FramePipeline, path: Path) -> CocoWriter:
    return CocoWriter(path, pipeline.spec.class_names, pipeline.spec.category_ids)


def _refuse_to_overwrite(source: Path, target: Path) -> None:
    if source.exists() and target.exists() and target.samefile(source):
        raise UsageError(f"{target} is the source itself; choose another --output.")

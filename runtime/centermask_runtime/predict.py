# SPDX-License-Identifier: Apache-2.0
"""The loop from a source to its results: source -> pipeline -> tracker -> sinks. Commands and API have no other."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.frame import FramePipeline
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw
from centermask_runtime.sinks.coco_json import CocoSink
from centermask_runtime.sinks.pictures import PictureSink
from centermask_runtime.sinks.sink import Sink
from centermask_runtime.sinks.video import VideoSink
from centermask_runtime.sources.source import Frame, Source, SourceInfo
from centermask_runtime.spec import ModelSpec

RESULTS = "predictions.json"


@dataclass(frozen=True)
class Result:
    """What was found in one frame of a source."""

    frame: Frame
    instances: Instances


class FrameTracker(Protocol):
    """What gives objects their ids: one frame after another, in the order in which they were taken."""

    def update(self, frame: Frame, instances: Instances) -> Instances:
        """The instances of the next frame, with ids."""
        ...


@dataclass
class Summary:
    """What a run over a source came to."""

    output: Path | None = None  # the folder of the results, where there is one
    frames: int = 0
    objects: int = 0
    times_ms: list[float] = field(default_factory=list)  # of each frame, as `fps` counts them
    skipped: list[str] = field(default_factory=list)  # a sentence per input that could not be read

    @property
    def fps(self) -> float:
        """Frames per second at the median time that a frame took: without reading, tracking and writing it.

        Drawing counts where the pipeline does it, as on a GPU.
        """
        return 1e3 / statistics.median(self.times_ms) if self.times_ms else 0.0

    def require_complete(self) -> None:
        """Raises DataError when inputs were skipped, after everything else has been done."""
        if len(self.skipped) == 1:
            raise DataError(self.skipped[0])
        if self.skipped:
            every, where = (
                self.frames + len(self.skipped),
                "" if self.output is None else f"; the rest is in {self.output}",
            )
            raise DataError(f"{len(self.skipped)} of {every} inputs could not be read{where}.")

    def to_dict(self) -> dict[str, Any]:
        """What `predict --json` prints."""
        return {
            "output": str(self.output), "frames": self.frames, "objects": self.objects, "fps": round(self.fps, 2),
            "skipped": self.skipped,
        }  # fmt: skip


Told = Callable[[Result], None]  # is called after each frame, such as to move a bar


def run(
    pipeline: FramePipeline,
    source: Source,
    sinks: Iterable[Sink],
    *,
    tracker: FrameTracker | None = None,
    progress: Told | None = None,
) -> Summary:
    """Takes every frame of a source through the pipeline and to the sinks; opens and closes none of the first two.

    sinks: entered one by one when the first frame has been read, so that a generator of them makes no file for a source
    that cannot be read; they are finished at the end, and given up where the run ends by an error. tracker: gives the
    objects ids. progress: called after each frame. Raises DataError, and what pipeline and sinks raise.

        with open_source("clip.mp4") as source, open_pipeline("model.onnx") as pipeline:
            summary = run(pipeline, source, outputs(Path("out"), source.info, pipeline.spec))
    """
    summary = Summary(skipped=source.skipped)
    frames = iter(source)
    first = list(itertools.islice(frames, 1))
    with ExitStack() as stack:
        entered = [stack.enter_context(sink) for sink in sinks]
        styles = {sink.style for sink in entered if sink.style is not None}
        feed = _Feed(itertools.chain(first, frames))
        for found, picture in _timed(_pairs(pipeline, feed, styles, tracker), feed, summary):
            frame = feed.waiting.popleft()
            instances = found if tracker is None else tracker.update(frame, found)
            pictures = {None: None} | {
                style: draw(frame.image, instances, style) if picture is None else picture for style in styles
            }
            for sink in entered:
                sink.add(frame, instances, pictures[sink.style])
            summary.frames += 1
            summary.objects += len(instances)
            if progress is not None:
                progress(Result(frame, instances))
    return summary


def results(pipeline: FramePipeline, frames: Iterable[Frame], tracker: FrameTracker | None = None) -> Iterator[Result]:
    """The result of each frame, in their order; a frame is taken when somebody asks for results."""
    feed = _Feed(frames)
    for found in pipeline.each(feed):
        frame = feed.waiting.popleft()
        yield Result(frame, found if tracker is None else tracker.update(frame, found))


def outputs(
    folder: Path, source: SourceInfo, spec: ModelSpec, *, style: DrawStyle | None = DEFAULT_STYLE, json: bool = True
) -> Iterator[Sink]:
    """The sinks of a folder, made as they are asked for: drawn pictures or a video, and predictions.json.

    style: how pictures are drawn; None for none of them. Raises UsageError where one would overwrite the source.
    """
    if style is not None and source.is_video:
        yield VideoSink(folder / f"{source.name}.mp4", source, style)
    elif style is not None:
        yield PictureSink(folder, source, style)
    if json:
        yield CocoSink(folder / RESULTS, spec.class_names, spec.category_ids)


class _Feed:
    """The images of frames for a pipeline; it remembers the frames whose results are not there yet."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = iter(frames)
        self.waiting: deque[Frame] = deque()
        self.reading_s = 0.0

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        while True:
            start = time.perf_counter()
            frame = next(self._frames, None)
            self.reading_s += time.perf_counter() - start
            if frame is None:
                return
            self.waiting.append(frame)
            yield frame.image


_Found = tuple[Instances, NDArray[np.uint8] | None]  # and the picture, where the pipeline draws


def _pairs(
    pipeline: FramePipeline, feed: _Feed, styles: set[DrawStyle], tracker: FrameTracker | None
) -> Iterator[_Found]:
    if pipeline.draws and tracker is None and len(styles) == 1:  # ids have to be known before they are drawn
        return pipeline.drawn(feed, next(iter(styles)))
    return ((found, None) for found in pipeline.each(feed))


def _timed(pairs: Iterator[_Found], feed: _Feed, summary: Summary) -> Iterator[_Found]:
    while True:
        start, before = time.perf_counter(), feed.reading_s
        pair = next(pairs, None)
        if pair is None:
            return
        summary.times_ms.append((time.perf_counter() - start - (feed.reading_s - before)) * 1e3)
        yield pair

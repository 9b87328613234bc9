# SPDX-License-Identifier: Apache-2.0
"""The loop from a source to its results: source -> pipeline -> tracker -> sinks. Commands and API have no other."""

from __future__ import annotations

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
from centermask_runtime.feed import Feed, Writer
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.frame import FramePipeline
from centermask_runtime.queues import no_poll
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.sink import Sink
from centermask_runtime.sources.source import Frame, Source

LATEST = 10_000  # frames whose times are kept: a stream may have no end


@dataclass(frozen=True)
class Result:
    """What was found in one frame of a source."""

    frame: Frame
    instances: Instances


class FrameTracker(Protocol):
    """What gives objects their ids: one frame after another, in the order in which they were taken.

    Frames of several streams or videos come mixed, or one source after the other: `frame.source.name` says which.
    """

    def update(self, frame: Frame, instances: Instances) -> Instances:
        """The instances of the next frame, with ids."""
        ...


@dataclass
class Summary:
    """What a run over a source came to."""

    output: Path | None = None  # the folder of the results, where there is one
    frames: int = 0
    objects: int = 0
    times_ms: deque[float] = field(  # of a frame, as `fps` counts them
        default_factory=lambda: deque(maxlen=LATEST), repr=False
    )
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
    summary: Summary | None = None,
    poll: Callable[[], None] = no_poll,
) -> Summary:
    """Takes every frame of a source through the pipeline and to the sinks; opens and closes none of the first two.

    Frames are read ahead by a thread, and drawn and written behind by two others, all in their order; the pipeline,
    the tracker and `progress` work in the thread that calls. What any of them raises is raised here.
    sinks: entered one by one when the first frame has been read, so that a generator of them makes no file for a source
    that cannot be read; they are finished at the end, and given up where the run ends by an error. A KeyboardInterrupt
    is none: what has been computed is written and finished, and then it is raised. tracker: gives the objects ids.
    progress: called after each frame. summary: filled on the way, for whoever wants it after an error. poll: called
    between frames and while none comes; what it raises ends the run.
    Raises DataError, and what pipeline and sinks raise.

        with open_source("clip.mp4") as source, open_pipeline("model.onnx") as pipeline:
            summary = run(pipeline, source, sinks_of(Path("out"), source.info, pipeline.spec, Outputs()))
    """
    summary = Summary() if summary is None else summary
    source.values = pipeline.spec.values
    with Feed(source, poll) as feed:
        feed.begin()
        with ExitStack() as stack:
            stack.callback(lambda: setattr(summary, "skipped", list(source.skipped)))
            entered = [stack.enter_context(sink) for sink in sinks]
            writer = stack.enter_context(Writer(entered))
            try:
                for frame, found, picture in _computed(pipeline, feed, writer.styles, tracker, summary, ahead=True):
                    instances = found if tracker is None else tracker.update(frame, found)
                    writer.put(frame, instances, picture)
                    summary.frames += 1
                    summary.objects += len(instances)
                    if progress is not None:
                        progress(Result(frame, instances))
            except KeyboardInterrupt as interrupt:
                feed.interrupt = interrupt
            writer.finish()
    if feed.interrupt is not None:
        raise feed.interrupt
    return summary


def results(
    pipeline: FramePipeline, source: Source | Iterable[Frame], tracker: FrameTracker | None = None
) -> Iterator[Result]:
    """The result of each frame, in their order; the first is read when somebody asks for a result."""
    with Feed(source) as feed:
        for frame, found, _ in _computed(pipeline, feed, set(), tracker, Summary(), ahead=False):
            yield Result(frame, found if tracker is None else tracker.update(frame, found))


_Computed = tuple[Frame, Instances, NDArray[np.uint8] | None]  # and the picture, where the pipeline draws


def _computed(
    pipeline: FramePipeline, feed: Feed, styles: set[DrawStyle], tracker: FrameTracker | None, summary: Summary, *,
    ahead: bool,
) -> Iterator[_Computed]:  # fmt: skip
    """What is found in each frame; the time of each goes to the summary."""
    if feed.streams > 1:
        yield from _together(pipeline, feed, summary)
        return
    if pipeline.draws and tracker is None and len(styles) == 1:  # ids have to be known before they are drawn
        pairs: Iterator[tuple[Instances, NDArray[np.uint8] | None]] = pipeline.drawn(feed.images(), next(iter(styles)))
    else:
        pairs = ((found, None) for found in pipeline.each(feed.images(), ahead=ahead))
    while True:
        start, before = time.perf_counter(), feed.reading_s
        pair = next(pairs, None)
        if pair is None:
            return
        summary.times_ms.append((time.perf_counter() - start - (feed.reading_s - before)) * 1e3)
        yield feed.waiting.popleft(), *pair


def _together(pipeline: FramePipeline, feed: Feed, summary: Summary) -> Iterator[_Computed]:
    """The frames that streams have ready go through the network together."""
    while frames := feed.take(feed.streams):
        start = time.perf_counter()
        found = pipeline.many([frame.image for frame in frames])
        summary.times_ms += [(time.perf_counter() - start) * 1e3 / len(frames)] * len(frames)
        yield from ((frame, one, None) for frame, one in zip(frames, found, strict=True))

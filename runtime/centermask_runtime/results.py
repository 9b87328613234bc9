# SPDX-License-Identifier: Apache-2.0
"""Results: what is in the frames of a source, one after the other, as they are asked for."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from centermask_runtime.arguments import check_flags, path_of
from centermask_runtime.closing import Closing
from centermask_runtime.errors import UsageError
from centermask_runtime.pipeline.frame import FramePipeline
from centermask_runtime.predict import FrameTracker, Result, Summary, run
from centermask_runtime.predict import results as frame_results
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle
from centermask_runtime.sinks.codecs import DEFAULT_CODEC
from centermask_runtime.sinks.outputs import DEFAULT_RESULTS, Outputs, sinks_of
from centermask_runtime.sinks.tracked import Tracked
from centermask_runtime.sources.source import Source, SourceInfo


class Results(Closing, Iterator[Result]):
    """An iterator over the results of a source's frames: each is computed when it is asked for, and none is kept.

    It is read once, from the beginning to the end, by one thread at a time, in the process that made it, and closes the
    source then: a second loop over it is a UsageError. Nothing is read before the first result is asked for. Whoever
    stops earlier closes it, or leaves its `with` block.

        for result in model("clip.mp4"):
            print(result.frame.time_s, result.instances.names)

        summary = model("clip.mp4").save("out")
    """

    def __init__(
        self,
        pipeline: FramePipeline,
        source: Source,
        tracker: FrameTracker | None = None,
        tracked: Tracked | None = None,
    ) -> None:
        """It owns the source, and neither pipeline nor tracker. tracked: what save draws and counts of tracks."""
        self._pipeline, self._source, self._tracker, self._tracked = pipeline, source, tracker, tracked
        source.values = pipeline.spec.values
        self._results: Iterator[Result] | None = None
        self._closed = self._given_back = False
        self._lock, self._process = threading.Lock(), os.getpid()
        _ALL.add(self)

    @property
    def info(self) -> SourceInfo:
        """What is known of the source: its name, number of frames, size and frame rate, where it says so."""
        return self._source.info

    @property
    def skipped(self) -> list[str]:
        """A sentence per input that could not be read so far, such as a damaged image in a folder."""
        return self._source.skipped

    def __iter__(self) -> Self:
        """Itself. Raises UsageError after the end and after close(), where a loop would silently find nothing."""
        if self._closed:
            raise UsageError("These results have been read to their end, or closed: call the model again.")
        return self

    def __next__(self) -> Result:
        """The next frame's result.

        Raises DataError where nothing can be read, UsageError for a closed model, while another thread reads, and in a
        process that was forked after the call of the model.
        """
        with self._reading():
            if self._closed:
                raise StopIteration
            if self._results is None:
                self._results = frame_results(self._pipeline, self._source, self._tracker)
            try:
                return next(self._results)
            except BaseException:  # the end is one, too
                self._closed = True
                raise

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        results: str | Iterable[str] = DEFAULT_RESULTS,
        pictures: bool = True,
        style: DrawStyle = DEFAULT_STYLE,
        codec: str = DEFAULT_CODEC,
        progress: Callable[[Result], None] | None = None,
    ) -> Summary:
        """Computes all results and writes them into a folder, which is made; returns how many there were, and how fast.

        results: kinds of results, as ("coco", "csv") or "coco,csv"; () for none. Of all frames: "coco" becomes
        predictions.json, "jsonl" predictions.jsonl and "csv" predictions.csv; of each frame: "yolo" goes to labels/,
        "masks" to masks/, "crops" to crops/, "geojson" to polygons/. pictures: images become drawn images of the same
        names, and a video becomes <name>.mp4, drawn in `style`, in the `codec` "h264", "vp9" or "av1". progress: called
        after each frame with its result. Zones and lines get a counts.csv.
        An output is whole or not there: after an error there is no video and no predictions.json, and the pictures that
        were drawn before it stay, each whole. Where the disk is full, a video and tables have what came until then.
        Ctrl-C is no error: all that was computed before it is finished and stays. Inputs that cannot be read are in the
        summary's `skipped`.
        Raises UsageError where results were taken already, where a picture would overwrite the source, or where the
        folder cannot be written; DataError where nothing can be read.
        """
        path = path_of(folder, "A folder")
        check_flags(pictures=pictures)
        if progress is not None and not callable(progress):
            raise UsageError(f"progress must be a function of a result, not {type(progress).__name__}.")
        if not isinstance(style, DrawStyle):
            raise UsageError(f"style must be a DrawStyle, not {type(style).__name__}; pictures=False leaves them out.")
        outputs = Outputs.of(results, style if pictures else None, codec, self._tracked)
        with self._reading():
            if self._results is not None or self._closed:
                raise UsageError("Some of these results were taken already: call the model again, and save first.")
            self._results = iter(())
            try:
                sinks = sinks_of(path, self.info, self._pipeline.spec, outputs)
                summary = run(self._pipeline, self._source, sinks, tracker=self._tracker, progress=progress)
            finally:
                self._closed = True
        summary.output = path
        return summary

    def __reduce__(self) -> tuple[Any, ...]:
        raise UsageError("Results are read in one process: open the model in the other one, and call it there.")

    def close(self) -> None:
        """Closes the source, at once or when the thread that reads has its result. Twice is as once.

        In a forked process nothing is done: the source is the parent's.
        """
        self._closed = True
        if self._process == os.getpid():
            self._give_back()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if self._process != os.getpid():
            raise UsageError("Results do not outlive a fork: call the model in the new process.")
        if not self._lock.acquire(blocking=False):
            raise UsageError("These results are being read by another thread: call the model once per thread.")
        try:
            yield
        finally:
            self._lock.release()
            if self._closed:
                self._give_back()

    def _give_back(self) -> None:
        """Closes the source unless somebody reads it, who does this afterwards."""
        if self._lock.acquire(blocking=False):
            try:
                if not self._given_back:
                    self._given_back = True
                    if isinstance(self._results, Generator):
                        self._results.close()  # first: its thread reads the source
                    self._source.close()
            finally:
                self._lock.release()


_ALL: weakref.WeakSet[Results] = weakref.WeakSet()
_INHERITED: list[Results] = []  # never collected in a child: a decoder's end would wait for threads that are not there


def _after_fork() -> None:
    _INHERITED.extend(_ALL)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)

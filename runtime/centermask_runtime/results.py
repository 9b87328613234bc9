# SPDX-License-Identifier: Apache-2.0
"""Results: what is in the frames of a source, one after the other, as they are asked for."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Self

from centermask_runtime.arguments import check_flags, path_of
from centermask_runtime.closing import Closing
from centermask_runtime.errors import UsageError
from centermask_runtime.pipeline.frame import FramePipeline
from centermask_runtime.predict import FrameTracker, Result, Summary, outputs, results, run
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle
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
                self._results = results(self._pipeline, self._source, self._tracker)
            try:
                return next(self._results)
            except BaseException:  # the end is one, too
                self._closed = True
                raise

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        pictures: bool = True,
        style: DrawStyle = DEFAULT_STYLE,
        json: bool = True,
        progress: Callable[[Result], None] | None = None,
    ) -> Summary:
        """Computes all results and writes them into a folder, which is made; returns how many there were, and how fast.

        pictures: images become drawn images of the same names, and a video becomes <name>.mp4, drawn in `style`. json:
        everything becomes predictions.json in COCO format; zones and lines get a counts.csv. progress: called after
        each frame with its result.
        An output is whole or not there: after an error there is no video and no predictions.json, and the pictures that
        were drawn before it stay, each whole. Ctrl-C is no error: all that was computed before it is
        finished and stays. Inputs that cannot be read are in the summary's `skipped`.
        Raises UsageError where results were taken already, where a picture would overwrite the source, or where the
        folder cannot be written; DataError where nothing can be read.
        """
        path = path_of(folder, "A folder")
        check_flags(pictures=pictures, json=json)
        if progress is not None and not callable(progress):
            raise UsageError(f"progress must be a function of a result, not {type(progress).__name__}.")
        if not isinstance(style, DrawStyle):
            raise UsageError(f"style must be a DrawStyle, not {type(style).__name__}; pictures=False leaves them out.")
        with self._reading():
            if self._results is not None or self._closed:
                raise UsageError("Some of these results were taken already: call the model again, and save first.")
            self._results = iter(())
            try:
                style_or_none = style if pictures else None
                sinks = outputs(
                    path, self.info, self._pipeline.spec, style=style_or_none, json=json, tracked=self._tracked
                )
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

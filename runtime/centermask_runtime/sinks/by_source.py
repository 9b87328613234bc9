# SPDX-License-Identifier: Apache-2.0
"""Drawn frames of several sources, each to its own output: a video for a video or a stream, pictures for images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle
from centermask_runtime.sinks.codecs import DEFAULT_CODEC
from centermask_runtime.sinks.pictures import PictureSink
from centermask_runtime.sinks.sink import FileSink, Sink, refuse_to_overwrite
from centermask_runtime.sinks.video import VideoSink
from centermask_runtime.sources.names import FrameNames
from centermask_runtime.sources.source import Frame, SourceInfo


class BySourceSink(FileSink):
    """A Sink that makes one for each source when its first frame comes, and finishes them all at the end.

    A stream that goes on in another size goes on in another video: door.mp4, door_2.mp4. The video of a source that has
    an end is finished when the next source begins.
    """

    def __init__(
        self,
        folder: str | Path,
        source: SourceInfo,
        style: DrawStyle = DEFAULT_STYLE,
        *,
        codec: str = DEFAULT_CODEC,
    ) -> None:
        self.style: DrawStyle | None = style
        self._folder, self._draws, self._codec, self._info = Path(folder), style, codec, source
        self.notes: list[str] = []  # of the videos that are finished
        self._pictures: PictureSink | None = None
        self._videos: dict[str, tuple[SourceInfo, VideoSink]] = {}  # by the source's name: what is being written
        self._names = FrameNames()

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame, to the sink of its source. Raises what that raises."""
        self._sink_of(frame.source).add(frame, instances, picture)

    def close(self) -> None:
        """Finishes all; where one fails, the others are finished all the same, and its error is raised."""
        failure: BaseException | None = None
        while self._videos:
            _, (_, sink) = self._videos.popitem()
            try:
                sink.close()
                self.notes += sink.notes
            except Exception as error:  # of any kind: the others are to be finished
                failure = error
        if failure is not None:
            raise failure

    def discard(self) -> None:
        """Gives up what is not finished."""
        while self._videos:
            _, (_, sink) = self._videos.popitem()
            sink.discard()

    def _sink_of(self, source: SourceInfo | None) -> Sink:
        if source is None or not source.is_video:
            if self._pictures is None:
                self._pictures = PictureSink(self._folder, self._info, self._draws)
            return self._pictures
        known = self._videos.get(source.name)
        if known is not None and known[0].size_hw == source.size_hw:
            return known[1]
        if known is not None:
            finished = self._videos.pop(source.name)[1]
            finished.close()
            self.notes += finished.notes
        if not source.is_live:
            self.close()
        path = self._folder / f"{self._names.of_video(source.name)}.mp4"
        refuse_to_overwrite(self._info, [path])
        sink = VideoSink(path, source, self._draws, codec=self._codec)
        self._videos[source.name] = source, sink
        return sink

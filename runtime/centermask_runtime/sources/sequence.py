# SPDX-License-Identifier: Apache-2.0
"""Several sources one after the other, each opened when its turn comes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from centermask_runtime.closing import Closing
from centermask_runtime.errors import DataError, shown
from centermask_runtime.sources.names import FrameNames
from centermask_runtime.sources.source import Frame, Source, SourceInfo
from centermask_runtime.value_range import ValueRange

Opener = Callable[[FrameNames], Source]  # gives its frames, or the video, names that are not taken yet


class SequenceSource(Closing):
    """A Source of the frames of several, which say of which they are.

    One that cannot be opened or read is skipped; where none can, DataError is raised.
    """

    def __init__(
        self,
        openers: Iterable[Opener],
        name: str,
        *,
        count: int | None = None,
        files: tuple[tuple[str, Path], ...] = (),
        left_out: tuple[Path, ...] = (),
    ) -> None:
        """openers: may come one by one, as they are asked for. files: all that no output may hit."""
        self._openers = openers
        self.info = SourceInfo(name, count=count, files=files, is_mixed=True, left_out=left_out)
        self.skipped: list[str] = []
        self.values: ValueRange | None = None

    def __iter__(self) -> Iterator[Frame]:
        names, read, opened = FrameNames(), 0, 0
        for opener in self._openers:
            opened += 1
            try:
                with opener(names) as source:
                    source.values = self.values
                    try:
                        for frame in source:
                            read += 1
                            yield frame
                    finally:
                        told = list(source.skipped)
            except DataError as error:
                told = [str(error)]
            self.skipped += told
        if read == 0 and self.skipped:
            raise DataError(
                self.skipped[0]
                if opened == 1
                else f"None of the {opened} sources in {shown(self.info.name)} could be read; the first: "
                f"{self.skipped[0]}"
            )

    def close(self) -> None:
        """Nothing is held open between two sources."""

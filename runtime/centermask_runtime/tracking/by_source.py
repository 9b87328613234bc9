# SPDX-License-Identifier: Apache-2.0
"""Something for each source of several: cameras that are read at once, or videos one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from centermask_runtime.sources.source import Frame

MOST_SOURCES = 256  # that are remembered: a list of videos may be long

Kept = TypeVar("Kept")


class BySource(Generic[Kept]):
    """Makes one for a source when its first frame comes, and gives it for each further one.

    A source is known by its name, so a camera that comes back in another size is the same. Beyond MOST_SOURCES the one
    that had no frame for the longest is forgotten.
    """

    def __init__(self, make: Callable[[Frame], Kept]) -> None:
        """make: is called with the first frame of a source."""
        self._make = make
        self._kept: dict[str, Kept] = {}

    def of(self, frame: Frame) -> Kept:
        """That of the frame's source."""
        name = source_name(frame)
        kept = self._kept.pop(name, None)
        if kept is None:
            kept = self._make(frame)
        self._kept[name] = kept  # the latest is the last
        if len(self._kept) > MOST_SOURCES:
            del self._kept[next(iter(self._kept))]
        return kept


def source_name(frame: Frame) -> str:
    """The name of the video or stream that the frame is of; empty for images."""
    return "" if frame.source is None else frame.source.name

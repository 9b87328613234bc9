# SPDX-License-Identifier: Apache-2.0
"""What a source is to those who take its frames: a context manager that says what it holds and gives it in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.value_range import ValueRange


@dataclass(frozen=True)
class Frame:
    """One picture of a source, and where in the source it stands."""

    image: NDArray[np.uint8]  # [H, W, 3] BGR
    name: str  # its own in its source: of the image file, or the video's name and frame number
    index: int  # from 0
    time_s: float | None  # since the beginning of the video; None for images
    file: Path | None = None  # that it was read from, and that no output may hit; None where nobody knows one
    source: SourceInfo | None = None  # the one of several that it comes from; of a stream, a new one when it changes


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a source before its frames are read."""

    name: str  # what outputs are called after: a file's stem, a folder's name
    count: int | None = None  # frames as declared; None where nobody knows
    size_hw: tuple[int, int] | None = None  # of every frame, as decoded; None where sizes may differ
    fps: Fraction | None = None  # of a video
    is_video: bool = False
    files: tuple[tuple[str, Path], ...] = ()  # a frame's name and its file; of a video its own; no output may hit one
    is_live: bool = False  # a camera or a stream: it has no end of its own
    parts: tuple[SourceInfo, ...] = ()  # of several streams that are read at once; their frames say which is theirs
    is_mixed: bool = False  # several sources one after the other: their frames say which is theirs
    left_out: tuple[Path, ...] = ()  # files of a folder that are neither images nor videos


class Source(Protocol):
    """Opened when it is made, read once from the beginning to the end, closed by its `with` block.

    What cannot be read does not end the rest: its sentence goes to `skipped`, and reading goes on. A source of which
    nothing can be read raises DataError instead.
    """

    info: SourceInfo
    values: ValueRange | None  # what becomes of images with more than 8 bits; set before the first frame is taken

    @property
    def skipped(self) -> list[str]: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None: ...

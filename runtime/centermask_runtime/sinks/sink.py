# SPDX-License-Identifier: Apache-2.0
"""What a sink is to those who have results: it takes frame after frame and is finished, or given up, at the end."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import CenterMaskError, DiskFullError, UsageError
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sources.source import Frame, SourceInfo


class Sink(Protocol):
    """A place for the results of many frames: an AllOrNothing, finished by close() and given up by discard().

    style: how the picture that it takes is to be drawn; None where it takes none.
    """

    style: DrawStyle | None

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame's results. picture: the frame drawn in `style`; the sink draws where it needs one and has none."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None: ...


class FileSink(AllOrNothing):
    """A Sink that writes files: an error gives them up, but where the disk is full, what they have until then stays."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, DiskFullError):
            with suppress(CenterMaskError):  # one sentence about the disk is on its way
                self.close()
        else:
            super().__exit__(kind, error, trace)


def refuse_to_overwrite(source: SourceInfo, targets: Iterable[Path]) -> None:
    """Raises UsageError where a target is a file of the source itself."""
    files = {_identity(path) for _, path in source.files}
    for target in targets:
        if target.exists() and _identity(target) in files:
            raise UsageError(f"{target} is the source itself; choose another output.")


def refuse_to_overwrite_frame(frame: Frame, target: Path) -> None:
    """Raises UsageError where a target is the file of the frame: not every source knows its files beforehand."""
    if frame.file is not None and target.exists() and _identity(target) == _identity(frame.file):
        raise UsageError(f"{target} is the source itself; choose another output.")


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None for a file that is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino

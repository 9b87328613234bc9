# SPDX-License-Identifier: Apache-2.0
"""A folder that one run at a time writes into."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.errors import UsageError, shown
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.sink import FileSink
from centermask_runtime.sources.source import Frame

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".centermask.lock"


def missing(folder: Path) -> list[Path]:
    """The folder and its parents that are not there, innermost first."""
    return [place for place in (folder, *folder.parents) if not place.exists()]


class OutputFolder(Closing):
    """Makes the folder and holds it until close(); a run that ends in any way, killed too, holds it no longer.

    Where the file system knows no locks, as some of clusters do not, several runs are not told from each other.
    """

    def __init__(self, folder: str | Path) -> None:
        """Raises UsageError where the folder cannot be made, and where another run holds it."""
        self.folder = Path(folder)
        self._lock: IO[str] | None = None
        self.made: list[Path] = []
        try:
            self.made = missing(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._locked()
        except BlockingIOError as error:
            raise UsageError(
                f"Another run writes into {shown(self.folder)} at this moment: wait for it, or choose another output."
            ) from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(
                f"The folder {shown(self.folder)} cannot be written, {reason}: choose another output."
            ) from error

    def close(self) -> None:
        """Gives the folder free, and takes it and its parents away where they are new and empty. Twice is as once."""
        if self._lock is None:
            return
        (self.folder / LOCK).unlink(missing_ok=True)
        self._lock.close()
        self._lock = None
        with suppress(OSError):  # of the first that is not empty
            for folder in self.made:
                folder.rmdir()

    def _locked(self) -> IO[str]:
        while fcntl is not None:
            file = (self.folder / LOCK).open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise
            except OSError:
                return file
            if os.fstat(file.fileno()).st_nlink:
                return file
            file.close()  # whoever held it has just taken it away
        return (self.folder / LOCK).open("w")


class LockSink(FileSink):
    """A Sink that writes nothing and holds the folder of those that come after it."""

    def __init__(self, folder: str | Path) -> None:
        """Raises UsageError as OutputFolder does."""
        self.style: DrawStyle | None = None
        self._held = OutputFolder(folder)

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Gives the folder free."""
        self._held.close()

    def discard(self) -> None:
        """Gives the folder free."""
        self._held.close()

# SPDX-License-Identifier: Apache-2.0
"""An output file under a temporary name beside its place, renamed when it is complete and removed when it is not."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import CenterMaskError, DiskFullError, UsageError, first_line

LONGEST_NAME = 240  # bytes of a temporary name and what is put to it: file systems take 255
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the quota, the largest size of a file


class PartialFile(AllOrNothing):
    """Reserves `path`: write to `.partial`, then close() or discard(). Raises UsageError if it cannot be written.

    durable: the file outlives a power failure after close(), and one before leaves the file that was there.
    """

    def __init__(self, path: str | Path, *, durable: bool = False) -> None:
        self.path = Path(path)
        self.durable = durable
        self.partial = _partial_of(self.path)
        try:
            if self.path.is_dir():
                raise IsADirectoryError("it is a folder")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.partial.touch()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UsageError(f"{self.path} cannot be written, {reason}: choose another output.") from error

    def write(self, content: bytes) -> None:
        """All of the content. Raises CenterMaskError, as when the disk is full."""
        try:
            self.partial.write_bytes(content)
        except OSError as error:
            raise writing_error(self.path, error) from error

    def close(self) -> None:
        """Gives the file its name. Raises UsageError, and nothing stays, where that is refused."""
        try:
            if self.durable:  # else the new name may reach the disk before the content does
                _sync(self.partial)
            os.replace(self.partial, self.path)
            if self.durable:
                _sync(self.path.parent)
        except OSError as error:
            self.discard()
            if error.errno in FULL:
                raise writing_error(self.path, error) from error
            raise UsageError(f"{self.path} cannot be replaced, {error.strerror}: choose another output.") from error

    def discard(self) -> None:
        self.partial.unlink(missing_ok=True)


def _partial_of(path: Path) -> Path:
    """The temporary name; of a long name only a part and a sum, as file systems take no longer one."""
    name, end = path.name, f".{os.getpid()}.partial"
    if len(os.fsencode(name)) + len(end) > LONGEST_NAME:
        name = f"{name[:20]}.{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    return path.with_name(f".{name}{end}")


def write_whole(path: str | Path, content: bytes, *, durable: bool = False) -> None:
    """Makes or replaces a file, all of it or none. Raises UsageError, or CenterMaskError when the disk is full."""
    with PartialFile(path, durable=durable) as file:
        file.write(content)


def writing_error(path: Path, error: BaseException) -> CenterMaskError:
    """What is to be raised where a file, of which a part may be there, could not be written on."""
    reason = getattr(error, "strerror", None) or first_line(error)
    if getattr(error, "errno", None) in FULL:
        return DiskFullError(
            f"{path} cannot be written on ({reason}): what was whole until then is kept; free some space and run again."
        )
    return CenterMaskError(f"{path} cannot be written on: {reason}.")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

# SPDX-License-Identifier: Apache-2.0
"""Lines of text that are written as they come: to a file, whole or not there at all, or to the standard output."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import CenterMaskError, UsageError
from centermask_runtime.partial_file import PartialFile, writing_error


class TextOutput(AllOrNothing):
    """A file of whole blocks of lines. After a full disk, close() keeps those that were written whole.

    Without a path it is the standard output, where each block goes at once.
    """

    def __init__(self, path: str | Path | None) -> None:
        """Raises UsageError when the file cannot be written, or the standard output is closed."""
        self.path = None if path is None else Path(path)
        self._whole = 0  # bytes of whole blocks
        self._failed = False
        if path is None and sys.stdout is None:
            raise UsageError(
                "The standard output is closed, and results were to go there: open it, or choose a folder."
            )
        if path is not None:
            self._file = PartialFile(path)
            self._stream = self._file.partial.open("wb", buffering=0)

    def write(self, block: str) -> None:
        """One block. Raises CenterMaskError when it fails, and BrokenPipeError where nobody reads any more."""
        block = block.encode(errors="backslashreplace").decode()  # a file's name need not be UTF-8
        if self.path is None:
            try:
                sys.stdout.write(block)
                sys.stdout.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise writing_error(Path("The standard output"), error) from error
            return
        content = memoryview(block.encode())
        try:
            while len(content):
                content = content[self._stream.write(content) :]
        except OSError as error:
            self._failed = True
            raise writing_error(self.path, error) from error
        self._whole = self._stream.tell()

    def close(self) -> None:
        """Gives the file its name. Raises CenterMaskError where it cannot be finished."""
        if self.path is None:
            return
        if self._failed:
            self._stream.truncate(self._whole)
        try:
            self._stream.close()
        except OSError as error:
            self._file.discard()
            raise CenterMaskError(f"{self.path} cannot be finished: {error.strerror}.") from error
        if self._failed and not self._whole:
            self._file.discard()
        else:
            self._file.close()

    def discard(self) -> None:
        """Gives up: no file stays. What went to the standard output is there."""
        if self.path is not None:
            with suppress(OSError):
                self._stream.close()
            self._file.discard()

# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C at moments of the trainer's choosing, so that no step is left half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class DeferredInterrupt:
    """A context manager in which the first SIGINT waits for the next look() and a second one interrupts at once.

    Outside of the main thread, where Python allows no handler, it changes nothing.
    """

    def __init__(self) -> None:
        self._asked = False
        self._main = False

    def __enter__(self) -> Self:
        self._asked = False
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)

    def look(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C was pressed."""
        if self._asked:
            raise KeyboardInterrupt

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.look()
        self._asked = True

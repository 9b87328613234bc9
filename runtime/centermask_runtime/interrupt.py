# SPDX-License-Identifier: Apache-2.0
"""DeferredInterrupt holds Ctrl-C and SIGTERM back until a loop polls for them, so that it finishes what it is doing."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Self

STOPPING = "Stopping after this step, then saving."
STDERR = 2
SIGNALS = (signal.SIGINT, signal.SIGTERM)  # a cluster that wants its machine back sends the second


class Terminated(KeyboardInterrupt):
    """Raised when SIGTERM came, which stops a command as Ctrl-C does, with another exit code."""


class DeferredInterrupt:
    """A context manager in which the first SIGINT or SIGTERM waits for a poll() and a second one interrupts at once.

    announce: whether the first one is answered on stderr at once, as a step can take many seconds; answer: how.
    Outside of the main thread, where Python allows no handler, signals are left as they are.
    """

    def __init__(self, *, announce: bool = False, answer: str = STOPPING) -> None:
        self._announce = announce
        self._first = self._answer = answer
        self._number: int | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        self._number, self._answer = None, self._first
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave
        self._before = {}

    def doing(self, answer: str) -> None:
        """Takes another first sentence for the answer, where no step is under way."""
        self._answer = answer

    @property
    def is_pending(self) -> bool:
        return self._number is not None

    def poll(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C was pressed, and Terminated if SIGTERM came."""
        if self.is_pending:
            self.stop()

    def stop(self) -> None:
        """Raises as poll() does, and also if it was another process that was asked to stop."""
        raise Terminated if self._number == signal.SIGTERM else KeyboardInterrupt

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.poll()
        self._number = number
        if self._announce:
            with contextlib.suppress(OSError):  # closed
                os.write(
                    STDERR, f"\n{self._answer} Ctrl-C again stops at once.\n".encode()
                )  # not print(), which the signal may have interrupted

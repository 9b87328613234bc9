# SPDX-License-Identifier: Apache-2.0
"""A pipeline of each process its own: threads of a back end do not outlive a fork, so the child opens it again.

What the parent had opened stays as it is in the child, never closed: its destructors would wait for those threads.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import NamedTuple

from centermask_runtime.closing import Closing
from centermask_runtime.errors import CenterMaskError, UsageError, first_line
from centermask_runtime.networks.network import CLOSED
from centermask_runtime.pipeline.frame import FramePipeline

ADVICE = "open the model in the new process, or start processes by multiprocessing's 'spawn'"


class _Opened(NamedTuple):
    pipeline: FramePipeline
    stack: ExitStack  # closes the pipeline and all below it


class PerProcess(Closing):
    """Opens the pipeline when it is made, and once more in each process that is forked from there. For all threads."""

    def __init__(
        self, opener: Callable[[], AbstractContextManager[FramePipeline]], name: str, *, reopens: bool = True
    ) -> None:
        """opener: opens it, closed at the end of its `with` block. reopens: False where that works but once."""
        self._opener, self._name, self._reopens = opener, name, reopens
        self._lock = threading.Lock()
        self._closed = False
        self._opened: _Opened | None = self._open()
        _ALL.add(self)

    def get(self) -> FramePipeline:
        """The pipeline of this process. Raises UsageError after close(), and where it does not outlive a fork."""
        opened = self._opened
        if opened is None:
            with self._lock:
                if self._closed:
                    raise UsageError(CLOSED)
                if self._opened is None:
                    self._opened = self._open_in_child()
                opened = self._opened
        return opened.pipeline

    def close(self) -> None:
        """Gives everything back; in a child, nothing of the parent's. Closing twice is as closing once."""
        with self._lock:
            self._closed = True
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.stack.close()

    def leave_parent(self) -> None:
        """In a child, after the fork: threads that held the lock are gone."""
        if self._opened is not None:
            _INHERITED.append(self._opened)
        self._opened, self._lock = None, threading.Lock()

    def _open(self) -> _Opened:
        with ExitStack() as stack:
            pipeline = stack.enter_context(self._opener())
            return _Opened(pipeline, stack.pop_all())

    def _open_in_child(self) -> _Opened:
        if not self._reopens:
            raise UsageError(f"{self._name} does not outlive a fork: {ADVICE}.")
        try:
            return self._open()
        except (CenterMaskError, RuntimeError) as error:  # RuntimeError: PyTorch's, whose CUDA does not outlive one
            raise UsageError(
                f"{self._name} cannot be opened again in this forked process ({first_line(error)}): {ADVICE}."
            ) from error


_ALL: weakref.WeakSet[PerProcess] = weakref.WeakSet()
_INHERITED: list[_Opened] = []


def _after_fork() -> None:
    for one in list(_ALL):
        one.leave_parent()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)

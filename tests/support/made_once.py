# SPDX-License-Identifier: Apache-2.0
"""What takes seconds to make is made once per run of the tests, by the worker that needs it first; others wait for it.

The folder belongs to one run, so what lies in it is never older than its sources.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

_run: list[Path] = []


def begin(folder: Path) -> None:
    """tests/conftest.py says here which folder all workers of this run share."""
    _run[:] = [folder]


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder that `make` has filled. Nobody may change what is in it."""
    (run,) = _run
    made, part = run / name, run / f"{name}.part"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if not made.exists():
                shutil.rmtree(part, ignore_errors=True)  # of a worker that failed
                part.mkdir()
                make(part)
                part.rename(made)
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # processes forked meanwhile may still have it open
    return made

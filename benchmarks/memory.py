# SPDX-License-Identifier: Apache-2.0
"""What a process holds, as Linux tells it: resident memory, open files, threads."""

from __future__ import annotations

import os
from pathlib import Path


def resident_mb() -> float:
    """Resident memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    return len(os.listdir("/proc/self/task"))

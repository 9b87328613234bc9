# SPDX-License-Identifier: Apache-2.0
"""How many CPUs this process may use: those of its affinity, and no more than the quota of its container pays for.

Libraries size their pools by the machine. In a container with two of 64 CPUs they start 64 threads, which then wait for
each other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import cv2

_forked: list[bool] = []  # in a child, OpenCV would wait for the threads of its parent's pool
if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=lambda: _forked.append(True))

CGROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """The number of threads that can run at once, at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def threads_to_use(threads: int | None) -> int | None:
    """What a back end is told: the number that was asked for; else usable_cpus() where that is fewer than all.

    None leaves the choice to the back end. OpenCV gets the same number where it is fewer than all.
    """
    usable = usable_cpus()
    if usable < (os.cpu_count() or 1) and cv2.getNumThreads() > usable and not _forked:
        cv2.setNumThreads(usable if usable > 1 else 0)  # 0 is one, too, and makes no pool
    if threads is not None:
        return threads
    return usable if usable < (os.cpu_count() or 1) else None


def cpu_quota(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> float | None:
    """How many CPUs the cgroups of this process pay for, of version 1 or 2; None for no limit, and where none are."""
    try:
        lines = own_groups.read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            quotas += _along(cgroups, path, _quota_v2)
        elif "cpu" in controllers.split(","):
            for root in (cgroups / controllers, cgroups / "cpu"):
                quotas += _along(root, path, _quota_v1)
    return min(quotas, default=None)


def _along(root: Path, path: str, quota_of: Callable[[Path], float | None]) -> list[float]:
    """The quotas of a group and of all above it: each of them limits."""
    parts = [part for part in path.split("/") if part and part != ".."]
    folders = [root.joinpath(*parts[:count]) for count in range(len(parts) + 1)]
    return [quota for folder in folders if (quota := quota_of(folder)) is not None]


def _quota_v2(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")
    return float(words[0]) / float(words[1]) if len(words) == 2 and words[0] != "max" else None


def _quota_v1(folder: Path) -> float | None:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return float(quota[0]) / float(period[0]) if quota and period and float(quota[0]) > 0 else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []

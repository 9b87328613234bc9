# SPDX-License-Identifier: Apache-2.0
"""Threads by affinity and by the quota of a container, of both versions of cgroups; files as the kernel writes them."""

from __future__ import annotations

import os

import cv2
import pytest

from centermask_runtime import cpus
from centermask_runtime.cpus import cpu_quota, threads_to_use, usable_cpus


def written(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "groups", folder / "own"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"own": "0::/\n", "groups/cpu.max": "150000 100000\n"}, 1.5),
        ({"own": "0::/\n", "groups/cpu.max": "max 100000\n"}, None),
        ({"own": "0::/a/b\n", "groups/a/cpu.max": "200000 100000\n", "groups/a/b/cpu.max": "max 100000\n"}, 2),
        ({"own": "0::/a/b\n", "groups/a/cpu.max": "200000 100000\n", "groups/a/b/cpu.max": "50000 100000\n"}, 0.5),
        (
            {
                "own": "5:memory:/m\n4:cpu,cpuacct:/docker/1\n0::/\n",
                "groups/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "300000\n",
                "groups/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "own": "4:cpu:/\n",
                "groups/cpu/cpu.cfs_quota_us": "-1\n",
                "groups/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"own": "0::/\n"}, None),
        ({}, None),
    ],
    ids=["v2", "v2 without", "v2 above", "v2 both", "v1", "v1 without", "no file", "no cgroups"],
)
def test_the_quota_is_the_smallest_of_all_groups_above(tmp_path, files, expected):
    assert cpu_quota(*written(tmp_path, files)) == expected


def test_threads_are_those_of_the_affinity_and_no_more_than_the_quota(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cv2, "setNumThreads", lambda count: counts.append(count))
    counts = []
    for quota, expected in ((None, 8), (1.5, 2), (0.1, 1), (100.0, 8)):
        monkeypatch.setattr(cpus, "cpu_quota", lambda quota=quota: quota)
        assert usable_cpus() == threads_to_use(None) == expected and threads_to_use(5) == 5
    assert set(counts) <= {8, 2, 0}


def test_where_all_are_free_the_back_end_chooses(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(os.cpu_count())), raising=False)
    monkeypatch.setattr(cpus, "cpu_quota", lambda: None)
    assert threads_to_use(None) is None

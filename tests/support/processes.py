# SPDX-License-Identifier: Apache-2.0
"""What a test that starts a process of its own gives it."""

from __future__ import annotations

import os

from tests.support.places import ROOT


def environment() -> dict[str, str]:
    """Finds the packages of a bare checkout, computes with one thread, and prints lines of up to 200 columns."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("", "export", "runtime"))
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

# SPDX-License-Identifier: Apache-2.0
"""Where the tests find the checkout and their data."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUCLEI = ROOT / "tests" / "assets" / "nuclei"  # seven images of the 2018 Data Science Bowl, CC0

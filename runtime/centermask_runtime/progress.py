# SPDX-License-Identifier: Apache-2.0
"""Progress: how a long loop is shown. Whoever runs the loop takes one; what it looks like is for the caller to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator

Progress = Callable[[Iterator[int], int, str], Iterator[int]]  # wraps a loop: its indices, their number, a title


def silent(indices: Iterator[int], count: int, title: str) -> Iterator[int]:
    """The Progress that shows nothing."""
    return indices

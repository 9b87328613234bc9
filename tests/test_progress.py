# SPDX-License-Identifier: Apache-2.0
"""The progress bar on narrow terminals."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from centermask.progress import progress_bar


@pytest.mark.parametrize("width", [80, 60])
def test_title_bar_count_and_time_left_are_seen_whatever_the_note_is(width):
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    with progress_bar(console) as progress:
        task = progress.add_task("validate", total=12345, note="")
        progress.update(task, completed=678, note="[a] very/long/name.png: 17 objects " * 5)
        progress.refresh()
    line = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n").splitlines()[-1]
    assert re.match(r"validate [━╸╺]{20} +678/12345 [\d:-]+ \[a\] .*…$", line), line
    assert len(line) <= width


def test_an_unknown_length_is_a_count(capsys):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress_bar(console) as progress:
        progress.update(progress.add_task("predict", total=None, note=""), completed=7)
    assert "7/?" in console.file.getvalue()

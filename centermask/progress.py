# SPDX-License-Identifier: Apache-2.0
"""The progress bar of all commands and of training: title, bar, count and time left, which 80 columns always hold.

What is told besides, the note, has the rest of the line and is cut off where it does not fit.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

BAR_WIDTH = 20  # columns


def progress_bar(console: Console) -> Progress:
    """A bar that is not started yet. Each task of it needs the field `note`."""
    rest_of_the_line = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR_WIDTH),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", markup=False, table_column=rest_of_the_line),
        console=console,
        expand=True,
    )

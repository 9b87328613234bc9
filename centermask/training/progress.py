# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a training: one bar with losses and time left, and a table with one row per epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import torch
from rich.console import Console
from rich.progress import TaskID

from centermask.progress import progress_bar
from centermask.training.losses import Losses
from centermask.training.memory import peak_memory_gib

LOSSES = {  # name in Losses -> as shown, what matters most first, as a narrow terminal shows only that
    "total": "loss",
    "mask": "mask",
    "heatmap": "heatmap",
    "size": "size",
    "offset": "offset",
    "saliency": "saliency",
}
COLUMNS = (  # heading, key of a row, width: together no more than 80
    ("epoch", "epoch", 5),
    ("step", "step", 8),
    ("loss", "train/total", 8),
    ("mask", "train/mask", 8),
    ("heatmap", "train/heatmap", 9),
    ("size", "train/size", 8),
    ("box AP", "val/bbox_AP", 8),
    ("mask AP", "val/segm_AP", 8),
    ("lr", "lr", 9),
    ("seconds", "seconds", 8),
)
HEADING_EVERY = 20  # rows


class TrainingDisplay:
    """A context manager; quiet=True shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet)
        self._progress = progress_bar(self.console)
        self._bar: TaskID | None = None
        self._rows = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, total_steps: int, done: int, device: torch.device) -> None:
        self._device = device
        self._bar = self._progress.add_task("train", total=total_steps, completed=done, note="")

    def step(self, epoch: int, step: int, losses: Losses) -> None:
        parts = {name: f"{float(value):.3g}" for name, value in losses._asdict().items()}
        note = " ".join(f"{shown} {parts[name]}" for name, shown in LOSSES.items())
        note += f" memory {peak_memory_gib(self._device):.1f} GiB"
        assert self._bar is not None
        self._progress.update(self._bar, completed=step, note=note, description=f"epoch {epoch + 1}")

    def epoch(self, row: dict[str, float | int]) -> None:
        """Adds a row to the table; all other numbers of the epoch are in results.csv."""
        if self._rows % HEADING_EVERY == 0:
            self.console.print("".join(f"{heading:>{width}}" for heading, _, width in COLUMNS), style="bold")
        self._rows += 1
        cells = ((_shown(row[key]), width) for _, key, width in COLUMNS)
        self.console.print("".join(f"{cell:>{width}}" for cell, width in cells), highlight=False)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False)

    def wrap(self, indices: Iterator[int], count: int, title: str) -> Iterator[int]:
        """Shows a loop as a bar of its own (validation)."""
        task = self._progress.add_task(title, total=count, note="")
        try:
            for index in indices:
                yield index
                self._progress.advance(task)
        finally:
            self._progress.remove_task(task)


def _shown(value: float | int) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"  # NaN: not validated

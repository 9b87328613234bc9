# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a training: one bar with losses and time left, one line an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from centermask.training.losses import Losses
from centermask.training.memory import peak_memory_gib


class TrainingDisplay:
    """A context manager; quiet=True shows nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
        )
        self._bar: TaskID | None = None

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
        note = " ".join(f"{name} {float(value):.3f}" for name, value in losses._asdict().items())
        note += f" memory {peak_memory_gib(self._device):.1f} GiB"
        assert self._bar is not None
        self._progress.update(self._bar, completed=step, note=f"epoch {epoch + 1}: {note}")

    def epoch(self, row: dict[str, float | int]) -> None:
        shown = {key: value for key, value in row.items() if value == value}  # without NaN: not validated this epoch
        parts = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in shown.items())
        self.console.print("  ".join(parts), highlight=False)

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

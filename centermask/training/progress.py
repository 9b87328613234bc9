# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a training: a bar on a terminal, a line every so often in a file, and one line per epoch."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Self

import torch
from rich.console import Console

from centermask.data.training_steps import TrainingSteps
from centermask.progress import progress_bar
from centermask.training.optimizer import full_rate, learning_rate
from centermask.training.run_folder import Row
from centermask.training.state import TrainingState
from centermask_runtime.errors import counted

PARTS = ("mask", "heatmap", "size", "offset", "saliency")  # of the loss, what matters most first
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


def peak_memory_gib(device: torch.device) -> float:
    """Measures the peak since the process began: of the GPU, or resident memory without the loader's workers."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def open_display(*, quiet: bool = False) -> TrainingDisplay:
    """Chooses the display that fits standard output: a bar on a terminal, else lines; nothing if quiet."""
    if quiet:
        return TrainingDisplay()
    console = Console()
    return BarDisplay(console) if console.is_terminal else LineDisplay(console)


class TrainingDisplay:
    """A context manager that hears of a training's progress. This one shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, run: str, plan: TrainingSteps, step: int, device: torch.device) -> None:
        """Hears that the training begins, or goes on, at a step."""

    def wants_losses(self) -> bool:
        """Tells whether to show the next step's losses, for which the training has to wait for the device."""
        return False

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        """Hears that a step is done; epoch is counted from 0, step from 1."""

    def epoch(self, row: Row, state: TrainingState) -> None:
        """Hears that an epoch is done and its files are written."""

    def say(self, text: str) -> None:
        """Tells the user a sentence."""

    def wrap(self, indices: Iterator[int], count: int, title: str) -> Iterator[int]:
        """Shows a loop over images (validation)."""
        return indices


class SpokenDisplay(TrainingDisplay):
    """What bar and lines have in common: the clock and the first sentence."""

    every_s: float  # seconds between steps that are shown

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self.shown_at = -math.inf

    def start(self, run: str, plan: TrainingSteps, step: int, device: torch.device) -> None:
        self.plan, self.device, train = plan, device, plan.samples.config.train
        self.parts = PARTS if train.distill is None else (*PARTS, "distill")
        from_step = f" from step {step + 1}" if step else ""
        self.say(
            f"{run}: {counted(plan.total_steps, 'step')} in {counted(plan.epochs, 'epoch')}, batch {train.batch}, "
            f"on {device}{from_step}"
        )
        if train.lr_batch not in (None, train.batch):
            self.say(
                f"Learning rate {full_rate(train):.4g}: train.lr {train.lr:g} is for batch {train.lr_batch}, "
                f"not {train.batch}."
            )
        self.started_at, self.first_step = self.clock(), step
        self.timed_from = self.started_at, step  # the images per second are those since then

    def wants_losses(self) -> bool:
        return self.clock() - self.shown_at >= self.every_s

    def epoch(self, row: Row, state: TrainingState) -> None:
        self.timed_from = self.clock(), state.step

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def images_per_second(self, step: int) -> float:
        """Measures the speed since the last call, without validations."""
        (since, first), now = self.timed_from, self.clock()
        self.timed_from = now, step
        return (step - first) * self.plan.samples.config.train.batch / max(now - since, 1e-9)


class BarDisplay(SpokenDisplay):
    """A bar, and a table with one row per epoch; all other numbers of an epoch are in results.csv."""

    every_s = 2.0

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, clock)
        self._progress = progress_bar(console)
        self._rows = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, run: str, plan: TrainingSteps, step: int, device: torch.device) -> None:
        super().start(run, plan, step, device)
        self._bar = self._progress.add_task("train", total=plan.total_steps, completed=step, note="")

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        self.shown_at = self.clock()
        parts = [f"loss {losses['total']:.3g}", f"{self.images_per_second(step):.3g} img/s"]
        parts += [f"{name} {losses[name]:.3g}" for name in self.parts]
        parts += [f"memory {peak_memory_gib(self.device):.1f} GiB"]
        self._progress.update(self._bar, completed=step, note=" ".join(parts), description=f"epoch {epoch + 1}")

    def epoch(self, row: Row, state: TrainingState) -> None:
        super().epoch(row, state)
        if self._rows % HEADING_EVERY == 0:
            self.console.print("".join(f"{heading:>{width}}" for heading, _, width in COLUMNS), style="bold")
        self._rows += 1
        cells = ((_cell(row[key]), width) for _, key, width in COLUMNS)
        self.console.print("".join(f"{cell:>{width}}" for cell, width in cells), highlight=False)

    def wrap(self, indices: Iterator[int], count: int, title: str) -> Iterator[int]:
        task = self._progress.add_task(title, total=count, note="")
        try:
            for index in indices:
                yield index
                self._progress.advance(task)
        finally:
            self._progress.remove_task(task)


class LineDisplay(SpokenDisplay):
    """Lines for a log file: the first step, and then one every half minute."""

    every_s = 30.0

    def step(self, epoch: int, step: int, losses: Mapping[str, float]) -> None:
        if not self.wants_losses():
            return
        self.shown_at = now = self.clock()
        left = (self.plan.total_steps - step) * (now - self.started_at) / (step - self.first_step)
        rate = learning_rate(step - 1, self.plan.total_steps, self.plan.samples.config.train)
        parts = ", ".join(f"{name} {losses[name]:.3f}" for name in self.parts)
        self.say(
            f"epoch {epoch + 1}/{self.plan.epochs}  step {step}/{self.plan.total_steps}  "
            f"loss {losses['total']:.3f} ({parts})  lr {rate:.3g}  {self.images_per_second(step):.3g} img/s  "
            f"{peak_memory_gib(self.device):.1f} GiB  {clock_time(left)} left"
        )

    def epoch(self, row: Row, state: TrainingState) -> None:
        super().epoch(row, state)
        parts = [f"epoch {row['epoch']}/{self.plan.epochs}", f"loss {row['train/total']:.3f}"]
        if not math.isnan(row["val/segm_AP"]):
            parts += [f"box AP {row['val/bbox_AP']:.4f}", f"mask AP {row['val/segm_AP']:.4f}"]
            parts += [f"(best {state.best_ap:.4f}, epoch {state.best_epoch})"]
        parts += [f"{row['memory_gib']:.1f} GiB", clock_time(row["seconds"])]
        self.say("  ".join(parts))

    def wrap(self, indices: Iterator[int], count: int, title: str) -> Iterator[int]:
        self.shown_at = self.clock()
        for number, index in enumerate(indices):
            if self.wants_losses():
                self.say(f"{title}: {number}/{count} images")
                self.shown_at = self.clock()
            yield index


def clock_time(seconds: float) -> str:
    """Writes 3725.4 as 1:02:05."""
    return str(timedelta(seconds=round(seconds)))


def _cell(value: float | int) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"  # NaN: not validated

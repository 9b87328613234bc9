# SPDX-License-Identifier: Apache-2.0
"""The micro-batches of each step, and what all processes of a training must agree on before they take it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from centermask.data.loader import Batch, training_loader
from centermask.data.training_steps import TrainingSteps
from centermask.training.distributed import Group
from centermask.training.losses import Counts, counts_of
from centermask_runtime.errors import CenterMaskError


@dataclass(frozen=True)
class StepInput:
    """What one process needs for a step."""

    batches: list[Batch]  # its micro-batches, on the CPU
    counts: Counts  # of the whole step: what its losses are averaged over
    show: bool  # whether the first process wants to show the step's losses


def step_inputs(
    plan: TrainingSteps, group: Group, wants_losses: Callable[[], bool], *, pin_memory: bool
) -> Iterator[StepInput]:
    """Starts the loader's workers, which end with the iterator, and gives the input of each step, from plan.first_step.

    All processes take a step's input together. Where one of them finds a CenterMaskError in the place of a batch, the
    first one raises it and the others leave.
    """
    loader = training_loader(plan.samples, plan, sharing=group.size_here, pin_memory=pin_memory)
    return _inputs(iter(loader), plan.samples.config.train.accumulate, group, wants_losses)


def _inputs(
    source: Iterator[Batch | CenterMaskError], accumulate: int, group: Group, wants_losses: Callable[[], bool]
) -> Iterator[StepInput]:
    while True:
        fetched = [next(source) for _ in range(accumulate)]
        batches = [batch for batch in fetched if isinstance(batch, Batch)]
        error = next((batch for batch in fetched if isinstance(batch, CenterMaskError)), None)
        objects, pixels, failed, show = group.sum(*counts_of(batches), error is not None, wants_losses())
        if failed:
            group.raise_first(error)
        yield StepInput(batches, Counts(objects, pixels), show > 0)

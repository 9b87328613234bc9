# SPDX-License-Identifier: Apache-2.0
"""The processes of one training: which devices they take, and what they tell each other between steps.

Gradients are PyTorch's DistributedDataParallel's affair. What this file exchanges (counts, errors, a wish to stop) goes
over the CPU, so that no step waits for a GPU and no GPU's patience ends while one process computes the AP.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import distributed as dist

from centermask_runtime.errors import CenterMaskError, UsageError

Item = TypeVar("Item")

PATIENCE = timedelta(hours=12)  # of a process that waits for another


def open_fabric(device: str, precision: str, devices: int | None = None) -> Fabric:
    """Chooses devices; launch() starts the processes. Raises UsageError when they are not there.

    device: auto, cpu or cuda. devices: GPUs, or processes on the CPU, of this machine (default 1). Under torchrun the
    processes run already and their number is torchrun's.
    """
    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if device == "cuda" and not gpus:
        raise UsageError("--device cuda needs a GPU, but PyTorch finds none here; use --device cpu.")
    if precision == "16-mixed" and not gpus:  # Fabric would take bf16-mixed instead
        raise UsageError("train.precision 16-mixed needs a GPU; use bf16-mixed or 32-true.")
    if dist.is_torchelastic_launched():
        here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if everywhere % here:
            raise UsageError(
                f"torchrun started {here} processes here and {everywhere} on all machines together; "
                "give each machine the same --nproc-per-node."
            )
        if devices is not None and devices != here:
            raise UsageError(f"--num-gpus {devices} is not torchrun's --nproc-per-node {here}; leave --num-gpus out.")
        asked, by, nodes = here, f"torchrun started {here} processes on this machine", everywhere // here
    else:
        asked, by, nodes = devices or 1, f"--num-gpus {devices} was asked for", 1
    if asked > (gpus or 1) and device != "cpu":
        raise UsageError(f"{by}, but PyTorch finds {gpus} GPUs here; ask for no more than there are, or --device cpu.")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the ranks of all processes, line by line
    # A 1 x 1 convolution's weights are alike in both memory formats, which DDP takes for a mistake.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
    strategy: str | Strategy = "auto"
    if asked * nodes > 1:
        strategy = DDPStrategy(gradient_as_bucket_view=True)
    accelerator = "cuda" if gpus else "cpu"
    return Fabric(
        accelerator=accelerator, devices=asked, num_nodes=nodes, strategy=strategy,
        precision=precision,  # type: ignore[arg-type]
    )  # fmt: skip


def process_count(fabric: Fabric) -> int:
    """Of a Fabric, launched or not."""
    strategy = fabric.strategy
    return strategy.num_nodes * strategy.num_processes if isinstance(strategy, DDPStrategy) else 1


class Group:
    """The processes of a launched Fabric. One alone talks to nobody: each method gives back what it was told."""

    def __init__(self, fabric: Fabric) -> None:
        self.rank, self.size = fabric.global_rank, fabric.world_size
        self._talk = dist.new_group(backend="gloo", timeout=PATIENCE) if self.size > 1 else None

    @property
    def main(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        if self._talk is None:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self._talk)
        return [float(value) for value in total]

    def any(self, here: bool) -> bool:
        return self.sum(here)[0] > 0

    def join(self, items: list[Item]) -> list[Item]:
        """All processes' lists, one after the other."""
        if self._talk is None:
            return items
        parts: list[list[Item]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, items, group=self._talk)
        return [item for part in parts for item in part]

    def from_main(self, item: Item) -> Item:
        """The first process's item."""
        return self.join([item])[0]

    def raise_first(self, error: CenterMaskError | None) -> None:
        """Ends all processes when one has met an error: the first one raises it, and the others leave quietly.

        None of them waits then for one that is gone, and the user is told once.
        """
        for met in self.join([error]):
            if met is not None:
                if self.main:
                    raise met
                raise SystemExit

    @contextmanager
    def together(self) -> Iterator[bool]:
        """All go on when the body is done in each process, and all end if it fails in one. The first is told True."""
        error: CenterMaskError | None = None
        try:
            yield self.main
        except CenterMaskError as met:
            error = met
        self.raise_first(error)

    def same_buffers(self, model: torch.nn.Module) -> None:
        """The first process's batch statistics everywhere; without sync_bn each process has its own."""
        if self._talk is not None:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

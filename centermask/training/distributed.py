# SPDX-License-Identifier: Apache-2.0
"""The processes of one training: which devices they take, and how they exchange values between steps.

Gradients are exchanged by PyTorch's DistributedDataParallel. What this file exchanges (counts, errors, a wish to stop)
goes over the CPU, so that no step waits for a GPU and no GPU's patience ends while one process computes the AP.
"""

from __future__ import annotations

import logging
import os
import shutil
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

from centermask.config import TrainConfig
from centermask_runtime.device import CPU, CUDA, Device
from centermask_runtime.errors import CenterMaskError, UsageError

Item = TypeVar("Item")

PATIENCE = timedelta(hours=12)  # of a process that waits for another


def open_fabric(train: TrainConfig, device: str | int | Device, devices: int | None = None) -> Fabric:
    """Chooses devices; launch() starts the processes. Raises UsageError where something that is asked for is not here.

    device: as Device.of reads it; a number above 0 chooses one GPU, and several are always the first ones. devices:
    GPUs, or processes on the CPU, of this machine (default 1). Under torchrun the processes run already and their
    number is torchrun's.
    """
    place = Device.of(device)
    gpus = torch.cuda.device_count() if place.kind != CPU and torch.cuda.is_available() else 0
    if place.kind == CUDA and not gpus:
        raise UsageError("A training on a GPU (device cuda) was asked for, but PyTorch finds none here; use cpu.")
    if place.index and place.index >= gpus:
        raise UsageError(
            f"Device cuda:{place.index} was asked for, but the last GPU here is cuda:{gpus - 1}; use that."
        )
    here, machines = _processes_asked_for(place.kind, devices, gpus)
    if place.index and here * machines > 1:
        raise UsageError(
            f"Device cuda:{place.index} is one GPU, but {here * machines} processes were asked for; use device cuda."
        )
    _check_machine(train, gpus, here * machines)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the ranks of all processes, line by line
    # A 1 x 1 convolution's weights are alike in both memory formats, which DDP takes for a mistake.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
    strategy: str | Strategy = "auto"
    if here * machines > 1:
        strategy = DDPStrategy(gradient_as_bucket_view=True)
    return Fabric(
        accelerator="cuda" if gpus else "cpu", devices=[place.index] if place.index else here,
        num_nodes=machines, strategy=strategy, precision=train.precision,  # type: ignore[arg-type]
    )  # fmt: skip


def _processes_asked_for(device: str, devices: int | None, gpus: int) -> tuple[int, int]:
    """Returns the number of processes on this machine, and of machines. Raises UsageError when they cannot be."""
    here, machines = devices or 1, 1
    asked = f"{devices} GPUs were asked for"
    if dist.is_torchelastic_launched():
        here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        if everywhere % here:
            raise UsageError(
                f"torchrun started {here} processes here and {everywhere} on all machines together; "
                "give each machine the same --nproc-per-node."
            )
        if devices is not None and devices != here:
            raise UsageError(
                f"{devices} GPUs were asked for, but torchrun started {here} processes on this machine; ask torchrun "
                "alone, by its --nproc-per-node."
            )
        machines = everywhere // here
        asked = f"torchrun started {here} processes on this machine"
    if here > (gpus or 1) and device != "cpu":
        raise UsageError(f"{asked}, but PyTorch finds {gpus} GPUs here; ask for no more than there are, or for cpu.")
    return here, machines


def _check_machine(train: TrainConfig, gpus: int, processes: int) -> None:
    """Raises UsageError where this machine lacks something that the config asks for."""
    if train.precision == "16-mixed" and not gpus:  # Fabric would take bf16-mixed instead
        raise UsageError("train.precision 16-mixed needs a GPU; use bf16-mixed or 32-true.")
    if train.sync_bn and processes > 1 and not gpus:
        raise UsageError("train.sync_bn works between GPUs only, but this training runs on the CPU; set it to false.")
    if train.compile and shutil.which(os.environ.get("CXX", "g++")) is None:  # on a GPU Triton needs it as well
        raise UsageError(
            "train.compile needs a C++ compiler, but there is no g++ here; install one or set it to false."
        )


def process_count(fabric: Fabric) -> int:
    """Counts the processes of a training on all machines, also before the Fabric is launched."""
    strategy = fabric.strategy
    return strategy.num_nodes * strategy.num_processes if isinstance(strategy, DDPStrategy) else 1


class Group:
    """The processes of a launched Fabric. Where there is only one, each method gives back what it was given."""

    def __init__(self, fabric: Fabric) -> None:
        self.rank, self.size = fabric.global_rank, fabric.world_size
        strategy = fabric.strategy
        self.size_here = strategy.num_processes if isinstance(strategy, DDPStrategy) else 1  # on this machine
        self._cpu = dist.new_group(backend="gloo", timeout=PATIENCE) if self.size > 1 else None

    @property
    def main(self) -> bool:
        """Whether this process writes the files and speaks to the user."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Adds each value over the processes; all of them get the sums."""
        if self._cpu is None:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self._cpu)
        return [float(value) for value in total]

    def any(self, here: bool) -> bool:
        """Tells whether it is so in at least one process."""
        return self.sum(here)[0] > 0

    def join(self, items: list[Item]) -> list[Item]:
        """Joins the lists of all processes, in the order of their ranks; all of them get the whole."""
        if self._cpu is None:
            return items
        parts: list[list[Item]] = [[] for _ in range(self.size)]
        dist.all_gather_object(parts, items, group=self._cpu)
        return [item for part in parts for item in part]

    def from_main(self, item: Item) -> Item:
        """Gives all processes the item of the first one."""
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
        """Waits at the end of the body for all processes, and ends all if it fails in one. The first one gets True."""
        error: CenterMaskError | None = None
        try:
            yield self.main
        except CenterMaskError as met:
            error = met
        self.raise_first(error)

    def share_buffers(self, model: torch.nn.Module) -> None:
        """Copies the first process's batch statistics to the others; without sync_bn each process has its own."""
        if self._cpu is not None:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

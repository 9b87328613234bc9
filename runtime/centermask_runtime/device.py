# SPDX-License-Identifier: Apache-2.0
"""Where a model runs: which devices there are names for, and which files can run on which.

auto is the GPU for engines, a GPU for weights where PyTorch finds one, and the CPU for all other files.
"""

from __future__ import annotations

import numbers
import re
from dataclasses import dataclass
from pathlib import Path

from centermask_runtime.arguments import whole
from centermask_runtime.errors import UsageError

AUTO, CPU, CUDA = "auto", "cpu", "cuda"
ENGINE_SUFFIXES = (".engine", ".plan")
CPU_ONLY_SUFFIXES = (".xml", ".torchscript")
MOST_THREADS = 1024


def check_threads(threads: int | None) -> int | None:
    """The number of CPU threads as an int; None is all of them. Raises UsageError for another kind or an absurd one."""
    return None if threads is None else whole("threads", threads, 1, MOST_THREADS)


@dataclass(frozen=True)
class Device:
    """A device as a user names it. Nothing is asked of the machine until a model is opened on it."""

    kind: str = AUTO  # auto, cpu or cuda
    index: int = 0  # number of the GPU
    cuda_driver: str = AUTO  # auto, cuda-bindings or pycuda

    @classmethod
    def of(cls, device: str | int | Device = AUTO, cuda_driver: str = AUTO) -> Device:
        """From its name: auto, cpu, cuda, cuda:1, or the number of a GPU, such as 1 or "1". Raises UsageError.

        >>> Device.of("cuda:1") == Device.of(1) == Device("cuda", 1)
        True
        """
        if isinstance(device, Device):
            return device
        number = isinstance(device, numbers.Integral) and not isinstance(device, bool)
        text = str(device).strip().lower() if number or isinstance(device, str) else ""
        found = re.fullmatch(r"(auto|cpu)|cuda(?::([0-9]{1,3}))?|([0-9]{1,3})", text)
        if found is None:
            raise UsageError(
                f"There is no device {device!r}: give auto, cpu, cuda, or the number of a GPU, as cuda:1 or 1 for the "
                "second."
            )
        if found[1] == CPU and cuda_driver != AUTO:
            raise UsageError(f"A CUDA driver, {cuda_driver}, makes no sense on device cpu; leave one of them out.")
        return cls(found[1] or CUDA, int(found[2] or found[3] or 0), cuda_driver)

    def runs_gpu_network(self, path: Path) -> bool:
        """Whether the file runs as a GpuNetwork there; weights never do, PyTorch moves them itself.

        Raises UsageError where the file cannot run on this device at all.
        """
        engine = path.suffix in ENGINE_SUFFIXES
        if engine and self.kind == CPU:
            raise UsageError(
                f"Device cpu was asked for, but {path} is an engine, which only a GPU runs: run the .onnx file."
            )
        if path.suffix in CPU_ONLY_SUFFIXES and self.kind == CUDA:
            raise UsageError(
                f"Device cuda was asked for, but {path} runs on the CPU only: run the .onnx file, an engine or the "
                "weights, or ask for no device."
            )
        chosen = engine or (path.suffix == ".onnx" and self.kind == CUDA)
        if self.cuda_driver != AUTO and not chosen:
            raise UsageError(
                f"The CUDA driver {self.cuda_driver} was asked for, but {path} would not use it, only .onnx files on "
                "device cuda and engines do: leave it out."
            )
        return chosen

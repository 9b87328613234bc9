# SPDX-License-Identifier: Apache-2.0
"""--device and --cuda-driver: where a model runs, and which files can run there.

auto is the CPU for .onnx, .xml and .torchscript, the GPU for engines, and for weights a GPU where PyTorch finds one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from centermask_runtime.errors import UsageError
from centermask_runtime.networks.opening import ENGINES

AUTO, CPU, CUDA = "auto", "cpu", "cuda"
CPU_ONLY = (".xml", ".torchscript")

Command = Callable[..., Any]


def device_options(command: Command) -> Command:
    for option in (
        click.option(
            "--cuda-driver", default=AUTO, show_default=True, metavar="PROVIDER",
            help="Of .onnx files and engines on a GPU: auto, cuda-bindings or pycuda.",
        ),
        click.option(
            "--device", default=AUTO, show_default=True, metavar="DEVICE", help="auto, cpu, cuda, or cuda:N for GPU N.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@dataclass(frozen=True)
class Device:
    kind: str = AUTO  # auto, cpu or cuda
    index: int = 0  # of the GPU
    cuda_driver: str = AUTO

    @classmethod
    def of(cls, device: str, cuda_driver: str) -> Device:
        """From the two options. Raises UsageError."""
        found = re.fullmatch(r"(auto|cpu)|cuda(?::([0-9]{1,3}))?", device)
        if found is None:
            raise UsageError(f"--device {device} is no device: give auto, cpu, cuda, or cuda:1 for the second GPU.")
        if device == CPU and cuda_driver != AUTO:
            raise UsageError(f"--cuda-driver {cuda_driver} makes no sense with --device cpu; leave one of them out.")
        return cls(found[1] or CUDA, int(found[2] or 0), cuda_driver)

    def runs_gpu_network(self, path: Path) -> bool:
        """Whether the file runs as a GpuNetwork there; weights never do, PyTorch moves them itself. Raises UsageError.

        What cannot run on this device at all is refused.
        """
        engine = path.suffix in ENGINES
        if engine and self.kind == CPU:
            raise UsageError(
                f"--device cpu was asked for, but {path} is an engine, which only a GPU runs: run the .onnx file."
            )
        if path.suffix in CPU_ONLY and self.kind == CUDA:
            raise UsageError(
                f"--device cuda was asked for, but {path} runs on the CPU only: run the .onnx file, an engine or the "
                "weights, or leave --device out."
            )
        chosen = engine or (path.suffix == ".onnx" and self.kind == CUDA)
        if self.cuda_driver != AUTO and not chosen:
            raise UsageError(
                f"--cuda-driver {self.cuda_driver} was given, but {path} would not use it, only .onnx files with "
                "--device cuda and engines do: leave it out."
            )
        return chosen

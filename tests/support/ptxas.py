# SPDX-License-Identifier: Apache-2.0
"""What ptxas says of every kernel on each architecture that we ship for; nvcc runs for it once per run of the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from centermask_runtime.cuda import kernels
from centermask_runtime.cuda.compile import ARCHITECTURES
from tests.support.made_once import made_once


def ptxas_usage() -> str:
    """Registers, spills and shared memory, as nvcc prints them; a warning of nvcc is an error."""

    def compile_all(folder: Path) -> None:
        unit = folder / "all.cu"
        unit.write_text(kernels.translation_unit())
        codes = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in ARCHITECTURES]
        command = [
            "nvcc", "-fatbin", *kernels.OPTIONS, "--Werror", "all-warnings", "-Xptxas", "-v", *codes,
            f"-I{kernels.FOLDER}", "-o", str(folder / "all.fatbin"), str(unit),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "usage.txt").write_text(done.stdout + done.stderr)

    return (made_once("ptxas", compile_all) / "usage.txt").read_text()

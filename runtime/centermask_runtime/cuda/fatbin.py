# SPDX-License-Identifier: Apache-2.0
"""Building the fatbin with nvcc, for a wheel: code for every architecture that nvcc knows, and what it was made of.

The oldest and the newest of them are in it as PTX too, which the driver compiles for the GPUs between and after.
Needs the standard library only: the build of a wheel runs it before anything is installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from centermask_runtime.cuda import kernels
from centermask_runtime.cuda.compile import (
    ARCHITECTURES,
    FATBIN,
    OLDEST,
    RECORD,
    SHIPPED,
    CompileError,
    Sources,
    first_message,
)


def build_fatbin(folder: Path, sources: Sources = SHIPPED, nvcc: str | None = None) -> str:
    """Writes fatbin and record into `folder`; returns the version of nvcc. Raises CompileError and leaves nothing."""
    program = nvcc or shutil.which("nvcc")
    if program is None:
        raise CompileError("nvcc is not on the PATH, so no fatbin can be built: install the CUDA toolkit.")
    version = nvcc_version(program)
    known = known_architectures(program)
    built_for = [number for number in ARCHITECTURES if number in known]
    if OLDEST not in built_for:  # a fatbin without it would be taken on such a GPU too, and fail there
        raise CompileError(f"nvcc {version} does not compile for sm_{OLDEST}, the oldest GPU that the kernels run on.")
    as_ptx = sorted({built_for[0], built_for[-1]})
    with tempfile.TemporaryDirectory() as made:
        built = Path(made) / FATBIN
        unit = Path(made) / "translation_unit.cu"
        unit.write_text(sources.text)
        code = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in built_for]
        code += [f"-gencode=arch=compute_{number},code=compute_{number}" for number in as_ptx]
        command = [program, "-fatbin", *kernels.OPTIONS, f"-I{sources.folder}", *code, "-o", str(built), str(unit)]
        done = _run(command)
        if done.returncode or not built.is_file():
            raise CompileError(f"nvcc {version} cannot compile the kernels: {first_message(done.stdout + done.stderr)}")
        shutil.copyfile(built, folder / FATBIN)
    record = {"sources": sources.hash(), "nvcc": version, "sm": built_for, "ptx": as_ptx}
    (folder / RECORD).write_text(json.dumps(record) + "\n")
    return version


def nvcc_version(nvcc: str) -> str:
    """Such as 13.0. Raises CompileError when the program is no nvcc that runs."""
    done = _run([nvcc, "--version"])
    found = re.search(r"release (\d+\.\d+)", done.stdout)
    if done.returncode or not found:
        raise CompileError(f"{nvcc} does not say its version: {first_message(done.stderr)}")
    return found[1]


def known_architectures(nvcc: str) -> set[int]:
    """Such as {75, 80, 86}. Raises CompileError when nvcc does not list them, as before CUDA 11."""
    done = _run([nvcc, "--list-gpu-arch"])
    found = {int(number) for number in re.findall(r"^compute_(\d+)\s*$", done.stdout, re.MULTILINE)}
    if done.returncode or not found:
        raise CompileError(f"{nvcc} does not list its architectures: {first_message(done.stderr)}")
    return found


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    except OSError as error:
        raise CompileError(f"{command[0]} cannot be run: {error.strerror}.") from error

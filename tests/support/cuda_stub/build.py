# SPDX-License-Identifier: Apache-2.0
"""Builds the stub of the CUDA driver, and runs Python with it in place of the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
NAME = "libcuda.so.1"
WITHOUT_PYCUDA = "import sys; sys.modules['pycuda'] = None\n"  # else "auto" takes it where it is installed


def build(folder: Path) -> Path:
    """Compiles the stub into `folder`; returns the library."""
    target = folder / NAME
    command = ["g++", "-std=c++20", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1", f"-Wl,-soname,{NAME}"]
    subprocess.run([*command, "-o", str(target), str(HERE / "libcuda.cpp"), "-ldl"], check=True)
    return target


def run_python(library: Path, script: str, **environment: str) -> str:
    """Standard output of a fresh interpreter that finds the stub as its driver, and no pycuda."""
    path = os.pathsep.join(str(folder) for folder in (ROOT, ROOT / "export", ROOT / "runtime"))
    variables = {**os.environ, "LD_LIBRARY_PATH": str(library.parent), "PYTHONPATH": path, **environment}
    command = [sys.executable, "-c", WITHOUT_PYCUDA + script]
    done = subprocess.run(command, capture_output=True, text=True, env=variables, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout

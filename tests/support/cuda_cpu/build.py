# SPDX-License-Identifier: Apache-2.0
"""The CPU build of the kernels: the shipped sources, the shim and a table of what g++ finds in them, as one library.

`python tests/support/cuda_cpu/build.py OUT.so [none|address|thread]` builds by hand.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from centermask_runtime.cuda import kernels

HERE = Path(__file__).resolve().parent
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(([^)]*)\)')
COMMENT = re.compile(r"//.*")
PARAMETER = re.compile(r"(?:const )?(?P<type>\w+)(?P<pointer>\* __restrict__)? (?P<name>\w+)")
TYPES = {
    "int": np.int32,
    "u32": np.uint32,
    "i64": np.int64,
    "u64": np.uint64,
    "float": np.float32,
    "double": np.float64,
}
OPTIONS = (
    *("-std=c++20", "-g1", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Werror"),
    *("-ffp-contract=off", "-fno-fast-math"),  # as --fmad=false
    "-fno-gnu-unique",  # each library has its own state
)
SANITIZERS = {
    "none": ("-O2",),
    "faulty": ("-O0", "-Wno-error"),  # damaged sources: soon compiled, soon wrong
    # float-cast-overflow is not in `undefined`: on a GPU such a cast saturates, on a CPU it gives anything.
    "address": ("-O1", "-fsanitize=address,undefined", "-fsanitize=float-cast-overflow", "-fno-sanitize-recover=all"),
    "thread": ("-O1", "-fsanitize=thread", "-DSHIM_THREADS"),
}


def signatures(source: str) -> dict[str, dict[str, np.dtype[Any]]]:
    """Each kernel of a source -> its parameters in order: name and type. A pointer is uint64, as a launch takes it."""
    found: dict[str, dict[str, np.dtype[Any]]] = {}
    for kernel, parameters in KERNEL.findall(COMMENT.sub("", source)):
        found[kernel] = {}
        for parameter in parameters.split(","):
            parsed = PARAMETER.fullmatch(" ".join(parameter.split()))
            assert parsed is not None, (kernel, parameter)
            found[kernel][parsed["name"]] = np.dtype(np.uint64 if parsed["pointer"] else TYPES[parsed["type"]])
    return found


def compiler() -> str | None:
    return shutil.which("g++")


def precompile(folder: Path, sanitizer: str) -> None:
    """Puts a compiled shim.h there; a build with the same sanitizer and `precompiled=folder` is then sooner done."""
    _compile(sanitizer, "-x", "c++-header", "-o", str(folder / "shim.h.gch"), str(HERE / "shim.h"))


def build(
    target: Path,
    sanitizer: str = "none",
    folder: Path = kernels.FOLDER,
    sources: Sequence[str] = kernels.SOURCES,
    precompiled: Path | None = None,
) -> Path:
    """Compiles the sources of `folder` into the shared library `target`, which is returned."""
    found = [signature for source in sources for signature in signatures((folder / source).read_text()).items()]
    includes = "".join(f'#include "{source}"\n' for source in sources)
    table = ", ".join(f'SHIM_KERNEL({kernel}, "{" ".join(parameters)}")' for kernel, parameters in found)
    first = [] if precompiled is None else [f"-I{precompiled}"]
    with tempfile.TemporaryDirectory() as made:
        host = Path(made) / "host.cpp"
        host.write_text(f'#include "shim.h"\n{includes}SHIM_TABLE({table})\n')
        _compile(sanitizer, "-shared", *first, f"-I{HERE}", f"-I{folder}", "-o", str(target), str(host))
    return target


def _compile(sanitizer: str, *arguments: str) -> None:
    gxx = compiler()
    assert gxx is not None, "g++ is not on PATH"
    done = subprocess.run([gxx, *OPTIONS, *SANITIZERS[sanitizer], *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    print(build(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "none"))

# SPDX-License-Identifier: Apache-2.0
"""Each source compiles alone, and all together for every GPU that we ship for: no warning, no spilled register."""

from __future__ import annotations

import re
import shutil

import pytest

from centermask_runtime.cuda import kernels
from centermask_runtime.cuda.compile import ARCHITECTURES, Nvrtc, Sources
from tests.support.cuda_cpu.build import signatures
from tests.support.ptxas import ptxas_usage

NVCC = shutil.which("nvcc")
MOST_REGISTERS = 64  # so that a multiprocessor of 65,536 registers holds 1,024 threads
USAGE = re.compile(
    r"Compiling entry function '(\w+)' for '(sm_\d+)'.*?"
    r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


@pytest.mark.slow
@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_no_kernel_spills_on_any_architecture():
    usage = USAGE.findall(ptxas_usage())
    names = [name for source in kernels.SOURCES for name in signatures((kernels.FOLDER / source).read_text())]
    found = {(name, architecture) for name, architecture, *_ in usage}
    assert found == {(name, f"sm_{number}") for name in names for number in ARCHITECTURES}
    for name, architecture, stack, stores, loads, registers in usage:
        print(f"{architecture} {name}: {registers} registers, {stores} + {loads} bytes spilled, stack {stack}")
        assert (int(stores), int(loads)) == (0, 0), (name, architecture)
        assert int(registers) <= MOST_REGISTERS, (name, architecture, registers)


@pytest.mark.parametrize("source", kernels.SOURCES)
def test_each_source_compiles_alone_with_nvrtc(source):
    pytest.importorskip("cuda.bindings.nvrtc", reason="needs cuda-bindings and the NVRTC wheel")
    alone = Sources(f'#include "{source}"\n', kernels.FOLDER, (source, *kernels.HEADERS))
    code = Nvrtc().compile(alone, "compute_75")
    assert all(f".entry {name}".encode() in code for name in signatures((kernels.FOLDER / source).read_text()))
    assert b"fma.rn.f32" not in code or source == "overlay.cu"  # which asks for one by name
    assert b"fma.rn.f64" not in code

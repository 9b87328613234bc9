# SPDX-License-Identifier: Apache-2.0
"""Tests of the tests: each damaged kernel is caught, by a wrong result, by the shim or by a sanitizer."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from centermask_runtime.cuda import kernels
from tests.support.cuda_cpu import sanitize
from tests.support.cuda_cpu.build import build, compiler, precompile
from tests.support.cuda_cpu.probes import PROBES, run_probe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.skipif(compiler() is None, reason="needs g++ to compile the kernels for the CPU"),
]

SOURCES = {
    "preprocess": ("preprocess.cu",),
    "peaks": ("peaks.cu",),
    "masks": ("masks.cu", "rle.cu", "overlay.cu"),
    "arena": ("masks.cu",),
}


@dataclass(frozen=True)
class Fault:
    name: str
    probe: str
    file: str
    sound: str  # occurs once
    faulty: str


WRONG = [
    Fault("padding one column late", "preprocess", "preprocess.cu", "column >= resized_w", "column > resized_w"),
    Fault("rounding forgotten", "preprocess", "preprocess.cu", "(sum + 2) >> 2", "sum >> 2"),
    Fault(
        "one tap at the edge", "preprocess", "preprocess.cu",
        "tap.weight_high = (int)", "tap.weight_high = low < 0 ? 0 : (int)",
    ),
    Fault("Cb and Cr exchanged", "preprocess", "preprocess.cu", "cb = (int)uv[0]", "cb = (int)uv[1]"),
    Fault("ties in reverse", "peaks", "common.cuh", "(u64)(~index)", "(u64)(index)"),
    Fault("no barrier behind the tile", "peaks", "peaks.cu", "__syncthreads();\n    int y = top", "int y = top"),
    Fault(
        "no barrier behind the cleared histogram", "peaks", "peaks.cu",
        "histogram[i] = 0;\n        __syncthreads();", "histogram[i] = 0;",
    ),
    Fault(
        "a barrier that some threads miss", "peaks", "peaks.cu",
        "if (threadIdx.x == 0) collected = 0;",
        "if (threadIdx.x == 0) collected = 0;\n    if (threadIdx.x < 100) __syncthreads();",
    ),
    Fault("digit off by one", "peaks", "peaks.cu", "histogram[digit] < need;", "histogram[digit] <= need;"),
    Fault("offset of the other axis", "peaks", "peaks.cu", "(axis == 0 ? x : y)", "(axis == 0 ? y : x)"),
    Fault("bits beyond the box", "masks", "masks.cu", "x < rect.x1 && value", "value"),
    Fault("greater for greater or equal", "masks", "masks.cu", "value >= threshold", "value > threshold"),
    Fault("row off by one", "masks", "masks.cu", "if (lane == row) bits", "if (lane == row + 1) bits"),
    Fault(
        "no barrier behind the rows of a tile", "masks", "masks.cu",
        "saliency_down.part};\n        __syncwarp();", "saliency_down.part};",
    ),
    Fault(
        "no barrier behind the shape", "masks", "masks.cu",
        "__syncthreads();\n    const float* sal", "const float* sal",
    ),
    Fault("a run that ends twice", "masks", "rle.cu", "whole && x + 1 < crop.x1", "false && x + 1 < crop.x1"),
    Fault("runs of later columns start anew", "masks", "rle.cu", "base_last = lasts[RLE_THREADS - 1]", "base_last = 0"),
    Fault("wrong object on top", "masks", "overlay.cu", "int i = first - lane;", "int i = count - 1 - first + lane;"),
    Fault("colour cut off, not rounded", "masks", "overlay.cu", "rintf(__fmaf_rn", "floorf(__fmaf_rn"),
    Fault("no contour at the mask's edge", "masks", "overlay.cu", "y < 0 || y >= height", "y < 0 || y > height"),
]  # fmt: skip
UNSAFE = [
    Fault("reads behind the frame", "preprocess", "preprocess.cu", "clamp_index(low + 1, count)", "low + 1"),
    Fault("more candidates than there is room", "peaks", "peaks.cu", "peak && slot < capacity", "peak"),
    Fault(
        "masks that do not fit", "arena", "masks.cu",
        "row_bytes > arena_bytes) return", "row_bytes > arena_bytes + 1) return",
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def precompiled(tmp_path_factory) -> dict[str, Path]:
    folders = {}
    for sanitizer in ("faulty", "address"):
        folders[sanitizer] = tmp_path_factory.mktemp(sanitizer)
        precompile(folders[sanitizer], sanitizer)
    return folders


def damaged(fault: Fault, folder: Path, sanitizer: str, precompiled: dict[str, Path]) -> Path:
    for name in (*kernels.SOURCES, *kernels.HEADERS):
        shutil.copy(kernels.FOLDER / name, folder / name)
    path = folder / fault.file
    text = path.read_text()
    assert text.count(fault.sound) == 1, f"{fault.file} has {text.count(fault.sound)} times: {fault.sound}"
    path.write_text(text.replace(fault.sound, fault.faulty))
    return build(folder / "damaged.so", sanitizer, folder, SOURCES[fault.probe], precompiled[sanitizer])


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """Processes that damaged kernels may crash; each is forked from one that has imported all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.cuda_cpu.probes"])
    return context


def exit_code(processes, library: Path, probe: str) -> int:
    process = processes.Process(target=run_probe, args=(library, probe))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("probe", PROBES)
def test_sound_kernels_pass_every_probe(probe, processes, cpu_kernels, tmp_path):
    library = tmp_path / "sound.so"
    library.write_bytes(cpu_kernels)
    assert exit_code(processes, library, probe) == 0


@pytest.mark.parametrize("fault", WRONG, ids=lambda fault: fault.name)
def test_a_wrong_kernel_is_noticed(fault, processes, tmp_path, precompiled):
    library = damaged(fault, tmp_path, "faulty", precompiled)
    assert exit_code(processes, library, fault.probe) != 0


@pytest.mark.parametrize("fault", UNSAFE, ids=lambda fault: fault.name)
def test_an_access_out_of_bounds_is_noticed(fault, tmp_path, precompiled):
    library = damaged(fault, tmp_path, "address", precompiled)
    done = probe_process(library, fault.probe)
    assert done.returncode and "AddressSanitizer: heap-buffer-overflow" in done.stderr, done.stderr[-2000:]


def probe_process(library: Path, probe: str) -> subprocess.CompletedProcess[str]:
    variables = {**sanitize.environment("address"), "PYTHONPATH": os.pathsep.join((".", "runtime"))}
    command = [sys.executable, "-m", "tests.support.cuda_cpu.probes", str(library), probe]
    return subprocess.run(command, cwd=sanitize.ROOT, env=variables, capture_output=True, text=True)


def test_the_kernels_are_clean_under_address_and_undefined_sanitizers():
    done = sanitize.run("address", ["-k", "not thick and not threads_of_a_block"], quiet=True)
    assert done.returncode == 0 and " passed" in done.stdout, (done.stdout + done.stderr)[-4000:]

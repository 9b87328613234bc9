# SPDX-License-Identifier: Apache-2.0
"""Runs the tests of the kernels with a sanitizer in the CPU build.

`python tests/support/cuda_cpu/sanitize.py address` finds accesses out of bounds and undefined operations, in seconds.
`python tests/support/cuda_cpu/sanitize.py thread` finds what no barrier orders, on smaller inputs, in minutes.
More arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "runtime")]

from tests.support.cuda_cpu.build import build, compiler  # noqa: E402

TESTS = ("test_cuda_preprocess.py", "test_cuda_peaks.py", "test_cuda_masks.py")
LIBRARIES = {"address": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
# A thread of the system for each thread of each block: small inputs, each kernel with a barrier at least once.
THREAD_TESTS = (
    "test_cuda_peaks.py::test_peaks_of_random_maps[cpu-7-grid_hw0]",
    "test_cuda_peaks.py::test_a_flat_map_gives_the_first_cells_in_order[cpu-10000-1]",
    "test_cuda_masks.py::test_a_checkerboard_has_the_most_runs[cpu]",
    "test_cuda_masks.py::test_a_frame_of_a_few_blocks[cpu]",
)


def environment(sanitizer: str) -> dict[str, str]:
    """What an interpreter needs to load a library that is built with the sanitizer."""
    gxx = compiler()
    assert gxx is not None, "g++ is not on PATH"
    paths = [
        subprocess.run([gxx, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
        for name in LIBRARIES[sanitizer]
    ]
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(paths),
        "PYTHONMALLOC": "malloc",  # so that arrays lie between red zones
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter leaks
        "TSAN_OPTIONS": "halt_on_error=1:exitcode=66",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def run(sanitizer: str, arguments: Sequence[str] = (), *, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """pytest on the kernels' tests. quiet keeps the output for the caller."""
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder) / "kernels.so", sanitizer)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *arguments]
        if sanitizer == "thread":
            command = ["setarch", "-R", *command]  # ThreadSanitizer maps fixed addresses: no random ones
        command += [f"tests/runtime/cuda/{name}" for name in (THREAD_TESTS if sanitizer == "thread" else TESTS)]
        variables = {**environment(sanitizer), "CENTERMASK_CPU_KERNELS": str(library)}
        return subprocess.run(command, cwd=ROOT, env=variables, capture_output=quiet, text=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]).returncode)

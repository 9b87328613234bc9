# SPDX-License-Identifier: Apache-2.0
"""The kernels' sources and how they are compiled: the one list that nvcc, NVRTC and the CPU build of the tests read.

Each source compiles alone and all of them in one translation unit. They include the header by name and nothing else, so
that NVRTC, which finds no system headers, takes them.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCES = ("preprocess.cu", "peaks.cu", "masks.cu", "rle.cu", "overlay.cu")  # one a file of reference/, same names
HEADERS = ("common.cuh",)
# Options of nvcc and NVRTC alike. Without fused multiply-add each operation rounds as NumPy's does.
OPTIONS = ("--std=c++17", "--fmad=false")


def translation_unit() -> str:
    """All kernels as one source. Compile it with FOLDER on the include path, or with sources and headers by name."""
    return "".join(f'#include "{name}"\n' for name in SOURCES)

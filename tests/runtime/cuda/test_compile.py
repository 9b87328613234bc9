# SPDX-License-Identifier: Apache-2.0
"""Kernels become code: by NVRTC for every architecture without a GPU, by nvcc into a fatbin of these very sources."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import struct
import subprocess
import sys

import pytest

from centermask_runtime.cuda import compile as compiling
from centermask_runtime.cuda import fatbin, kernels
from centermask_runtime.cuda.compile import (
    ARCHITECTURES,
    FATBIN,
    RECORD,
    SHIPPED,
    CompileError,
    Nvrtc,
    Sources,
    first_message,
    kernel_image,
)
from tests.support.places import ROOT

ELF_MACHINE_CUDA = 190
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(')
has_nvrtc = all(importlib.util.find_spec(name) is not None for name in ("cuda", "nvidia"))
needs_nvrtc = pytest.mark.skipif(not has_nvrtc, reason="needs NVRTC: pip install 'centermask[cuda]'")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc of the CUDA toolkit")

HEADER = "__device__ inline float twice(float x) { return 2.0f * x; }\n"
GOOD = '#include "common.cuh"\nextern "C" __global__ void good(float* p) { p[0] = twice(p[0]) + 1.0f; }\n'
BAD = '#include "common.cuh"\n\n\nextern "C" __global__ void bad(float* p) { p[0] = thrice(p[0]); }\n'


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache of its own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "centermask" / "kernels"


@pytest.fixture
def good(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "common.cuh").write_text(HEADER)
    (folder / "good.cu").write_text(GOOD)
    (folder / "bad.cu").write_text(BAD)
    return Sources('#include "good.cu"\n', folder, ("good.cu", "common.cuh"))


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_the_shipped_kernels_for_every_architecture(architecture):
    code = Nvrtc().compile(SHIPPED, f"sm_{architecture}")
    assert code[:4] == b"\x7fELF" and int.from_bytes(code[18:20], "little") == ELF_MACHINE_CUDA
    named = set(re.findall(rb"\.text\.(\w+)", code))
    texts = [(kernels.FOLDER / source).read_text() for source in kernels.SOURCES]
    declared = {name.encode() for text in texts for name in KERNEL.findall(text)}
    assert len(declared) >= 10 and named == declared


@needs_nvrtc
def test_a_multiplication_is_not_fused_with_an_addition(good):
    (good.folder / "good.cu").write_text('extern "C" __global__ void m(float* p) { p[0] = p[1] * p[2] + p[3]; }\n')
    assert b"fma.rn" not in Nvrtc().compile(good, "compute_90")
    (good.folder / "good.cu").write_text(
        'extern "C" __global__ void m(float* p) { p[0] = __fmaf_rn(p[1], p[2], p[3]); }\n'
    )
    assert b"fma.rn" in Nvrtc().compile(good, "compute_90")


@needs_nvrtc
def test_code_is_made_once_and_then_read_from_the_cache(good, cache):
    first, second = kernel_image((9, 0), good), kernel_image((9, 0), good)
    assert first.code == second.code and first.code[:4] == b"\x7fELF"
    assert second.origin == f"{first.origin}, from the cache" and first.origin.endswith("for sm_90")
    assert len(list(cache.iterdir())) == 1
    kernel_image((8, 0), good)
    assert len(list(cache.iterdir())) == 2


@needs_nvrtc
def test_a_changed_header_is_compiled_anew(good, cache):
    before = kernel_image((9, 0), good)
    (good.folder / "common.cuh").write_text(HEADER.replace("2.0f", "3.0f"))
    after = kernel_image((9, 0), good)
    assert not after.origin.endswith("from the cache") and after.code != before.code


@needs_nvrtc
def test_a_cache_that_cannot_be_written_is_said_and_the_code_comes(good, cache):
    cache.parent.parent.write_text("a file where the folder would be")
    image = kernel_image((9, 0), good)
    assert image.code[:4] == b"\x7fELF" and "not cached: " in image.origin


@needs_nvrtc
@pytest.mark.parametrize(("capability", "architecture"), [((8, 9), "sm_89"), ((9, 9), "sm_90"), ((19, 0), "compute_")])
def test_a_gpu_between_or_after_the_known_ones_gets_near_code_or_ptx(capability, architecture):
    chosen = Nvrtc().architecture_for(10 * capability[0] + capability[1])
    assert chosen.startswith(architecture)


def test_a_gpu_that_is_too_old_is_refused():
    with pytest.raises(CompileError, match=r"compute capability 7.0, and the kernels need 7.5 or newer"):
        kernel_image((7, 0))


@needs_nvrtc
def test_an_error_names_the_file_and_line_of_the_source(good):
    broken = Sources('#include "good.cu"\n#include "bad.cu"\n', good.folder, ("good.cu", "bad.cu", "common.cuh"))
    (good.folder / "common.cuh").write_text("#pragma once\n" + HEADER)
    with pytest.raises(CompileError) as raised:
        kernel_image((9, 0), broken)
    assert f'{good.folder / "bad.cu"}(4): identifier "thrice" is undefined' in str(raised.value)
    assert "\n" not in str(raised.value)


def test_messages_of_both_compilers_are_understood():
    log = 'a/x.cu(3): warning: unused\na/x.cu(12): error: expected a ";"\n  more\n'
    assert first_message(log) == 'a/x.cu(12): expected a ";"'
    assert first_message("u.cu:1:10: fatal error: gone.cu: No such file\n") == "u.cu:1:10: gone.cu: No such file"
    assert first_message("ptxas died\nsomehow") == "ptxas died"
    assert first_message("\0") == "the compiler says nothing"


def fatbin_entries(content: bytes) -> list[tuple[str, int]]:
    """What a fatbin holds: ("ptx" or "elf", architecture), read from its headers."""
    magic, _, header_bytes, size = struct.unpack_from("<IHHQ", content)
    assert magic == 0xBA55ED50 and header_bytes + size <= len(content)
    place, found = header_bytes, []
    while place < header_bytes + size:
        kind, _, entry_bytes, code_bytes = struct.unpack_from("<HHIQ", content, place)
        (architecture,) = struct.unpack_from("<I", content, place + 28)
        found.append(({1: "ptx", 2: "elf"}[kind], architecture))
        place += entry_bytes + code_bytes
    return found


@pytest.mark.slow
@needs_nvcc
def test_a_fatbin_has_all_architectures_and_is_used_only_for_its_own_sources(good):
    version = fatbin.build_fatbin(good.folder, good)
    image = kernel_image((9, 0), good)
    assert image.origin == f"fatbin of nvcc {version}" and image.code == (good.folder / FATBIN).read_bytes()
    expected = {("elf", number) for number in ARCHITECTURES} | {("ptx", number) for number in (75, 120)}
    assert set(fatbin_entries(image.code)) == expected
    record = json.loads((good.folder / RECORD).read_text())
    assert (record["sm"], record["ptx"]) == (list(ARCHITECTURES), [75, 120])
    (good.folder / "good.cu").write_text(GOOD.replace("1.0f", "2.0f"))
    assert compiling.fatbin_version(good) is None
    (good.folder / RECORD).write_text("{")
    with pytest.raises(CompileError, match=r"fatbin.json is damaged .*: install the package again"):
        compiling.fatbin_version(good)


# An nvcc that refuses what it does not list, as nvcc does, and writes its arguments in the place of a fatbin.
OLDER_NVCC = """#!/bin/sh
case "$1" in
    --version) echo "Cuda compilation tools, release 12.2, V12.2.140"; exit ;;
    --list-gpu-arch) printf 'compute_%s\\n' {known}; exit ;;
esac
for one in "$@"; do
    case "$one" in *compute_100*|*compute_120*) echo "nvcc fatal   : Unsupported gpu architecture" >&2; exit 1 ;; esac
    [ "$before" = -o ] && output="$one"
    before="$one"
done
echo "$@" > "$output"
"""


def older_nvcc(folder, *known):
    program = folder / "nvcc"
    program.write_text(OLDER_NVCC.format(known=" ".join(map(str, known))))
    program.chmod(0o755)
    return str(program)


def test_an_older_nvcc_builds_for_what_it_knows_and_the_record_says_so(good, tmp_path):
    nvcc = older_nvcc(tmp_path, 50, 75, 80, 86, 87, 89, 90)
    assert fatbin.build_fatbin(good.folder, good, nvcc=nvcc) == "12.2"
    known = [75, 80, 86, 87, 89, 90]
    codes = re.findall(r"-gencode=arch=compute_(\d+),code=(sm|compute)_(\d+)", (good.folder / FATBIN).read_text())
    expected = [(number, "sm", number) for number in map(str, known)] + [(n, "compute", n) for n in ("75", "90")]
    assert codes == expected
    record = json.loads((good.folder / RECORD).read_text())
    assert (record["nvcc"], record["sm"], record["ptx"]) == ("12.2", known, [75, 90])
    assert kernel_image((9, 0), good).origin == "fatbin of nvcc 12.2"


def test_an_nvcc_without_the_oldest_architecture_leaves_no_fatbin(good, tmp_path):
    with pytest.raises(CompileError, match=r"nvcc 12.2 does not compile for sm_75, the oldest GPU"):
        fatbin.build_fatbin(good.folder, good, nvcc=older_nvcc(tmp_path, 80, 90))
    assert not (good.folder / FATBIN).exists() and not (good.folder / RECORD).exists()


@pytest.mark.parametrize("nvcc", ["/nowhere/nvcc", "false"])
def test_an_nvcc_that_does_not_run_leaves_no_fatbin(good, nvcc):
    with pytest.raises(CompileError):
        fatbin.build_fatbin(good.folder, good, nvcc=shutil.which(nvcc) or nvcc)
    assert not (good.folder / FATBIN).exists() and not (good.folder / RECORD).exists()


@needs_nvcc
def test_sources_that_do_not_compile_leave_no_fatbin_and_name_the_line(good):
    broken = Sources('#include "bad.cu"\n', good.folder, ("bad.cu", "common.cuh"))
    with pytest.raises(CompileError, match=rf"{re.escape(str(good.folder / 'bad.cu'))}\(4\): identifier"):
        fatbin.build_fatbin(good.folder, broken)
    assert not (good.folder / FATBIN).exists()


# The real compiler for one architecture: what a wheel build does, in a fraction of its time.
ONE_ARCHITECTURE = """#!/bin/sh
for one in "$@"; do
    shift
    case "$one" in -gencode=arch=compute_90,*) set -- "$@" "$one" ;; -gencode=*) ;; *) set -- "$@" "$one" ;; esac
done
exec {nvcc} "$@"
"""


@pytest.mark.process
@pytest.mark.parametrize("nvcc", ["real", "broken"])
def test_a_wheel_has_the_kernels_and_a_fatbin_where_nvcc_works(tmp_path, nvcc):
    """build_py alone: what a wheel is filled from."""
    pytest.importorskip("setuptools")
    real = shutil.which("nvcc")
    if nvcc == "real" and real is None:
        pytest.skip("needs nvcc of the CUDA toolkit")
    program = tmp_path / "bin" / "nvcc"
    program.parent.mkdir()
    program.write_text(ONE_ARCHITECTURE.format(nvcc=real) if nvcc == "real" else "#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    build = ["egg_info", "--egg-base", str(tmp_path), "build_py", "-d", str(tmp_path / "lib")]
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", *build],
        cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    built = tmp_path / "lib" / "centermask_runtime" / "cuda" / "kernels"
    assert {*kernels.SOURCES, *kernels.HEADERS} <= {file.name for file in built.iterdir()}
    sources = Sources(SHIPPED.text, built, SHIPPED.files)
    if nvcc == "real":
        assert kernel_image((9, 0), sources).origin.startswith("fatbin of nvcc")
        assert fatbin_entries((built / FATBIN).read_bytes()) == [("elf", 90)]
    else:
        assert compiling.fatbin_version(sources) is None and not (built / FATBIN).exists()
    assert not (kernels.FOLDER / FATBIN).exists()  # a checkout is left as it was

# SPDX-License-Identifier: Apache-2.0
"""From kernel sources to what a GPU loads: the shipped fatbin where it fits, else NVRTC, kept in the user's cache.

A wheel built where nvcc is found carries `kernels.fatbin` beside the sources, and `fatbin.json` with the hash of the
sources that it was made of: a fatbin of other sources is never used. NVRTC comes as a wheel and compiles for any
architecture, with a GPU or without. Both compile without fused multiply-add, so that all executors give equal bits.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centermask_runtime.cuda import kernels
from centermask_runtime.errors import CenterMaskError, first_line
from centermask_runtime.packages import install_command
from centermask_runtime.partial_file import write_whole

FATBIN = "kernels.fatbin"
RECORD = "fatbin.json"
ARCHITECTURES = (75, 80, 86, 87, 89, 90, 100, 120)  # in the fatbin as code, where nvcc knows them
OLDEST = min(ARCHITECTURES)
# "peaks.cu(12): error: ..." of NVIDIA's compilers, "peaks.cu:12:3: error: ..." of the preprocessor that nvcc calls.
ERROR_LINE = re.compile(
    r"^(?P<place>.+(?:\(\d+\)|:\d+:\d+)): (?:catastrophic |fatal )?error:? *(?P<text>.+)$", re.MULTILINE
)


class CompileError(CenterMaskError):
    """Kernels cannot be compiled here: the compiler's own message, with file and line, or what is missing."""


@dataclass(frozen=True)
class Sources:
    """A translation unit, its name in messages, and the folder with all that it includes."""

    text: str
    folder: Path
    files: tuple[str, ...]
    name: str = "kernels"

    def hash(self) -> str:
        """SHA-256 of text, options and every file, by name and content."""
        digest = hashlib.sha256(" ".join((self.text, *kernels.OPTIONS)).encode())
        for name in sorted(self.files):
            content = (self.folder / name).read_bytes()
            digest.update(f"\0{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()


SHIPPED = Sources(kernels.translation_unit(), kernels.FOLDER, (*kernels.SOURCES, *kernels.HEADERS))


@dataclass(frozen=True)
class KernelImage:
    """All kernels as code that one GPU can load."""

    code: bytes
    origin: str  # for people: "fatbin of nvcc 13.0", "NVRTC 13.0 for sm_90, from the cache"


def kernel_image(compute_capability: tuple[int, int], sources: Sources = SHIPPED) -> KernelImage:
    """The kernels for a GPU. Raises CompileError, with file and line where a source is wrong."""
    wanted = 10 * compute_capability[0] + compute_capability[1]
    if wanted < OLDEST:
        raise CompileError(
            f"The GPU has compute capability {'.'.join(map(str, compute_capability))}, and the kernels need "
            f"{OLDEST // 10}.{OLDEST % 10} or newer: use the CPU."
        )
    nvcc = fatbin_version(sources)
    if nvcc is not None:
        return KernelImage((sources.folder / FATBIN).read_bytes(), f"fatbin of nvcc {nvcc}")
    nvrtc = Nvrtc()
    architecture = nvrtc.architecture_for(wanted)
    path = cache_folder() / f"{sources.name}-{sources.hash()[:24]}-nvrtc{nvrtc.version}.{architecture}"
    origin = f"NVRTC {nvrtc.version} for {architecture}"
    if path.is_file():
        return KernelImage(path.read_bytes(), f"{origin}, from the cache")
    code = nvrtc.compile(sources, architecture)
    try:
        write_whole(path, code)
    except CenterMaskError as error:
        return KernelImage(code, f"{origin}, not cached: {first_line(error)}")
    return KernelImage(code, origin)


def fatbin_version(sources: Sources = SHIPPED) -> str | None:
    """The nvcc that made the fatbin beside the sources; None when there is none, or it was made of other sources."""
    try:
        record = json.loads((sources.folder / RECORD).read_text())
        fresh = record["sources"] == sources.hash() and (sources.folder / FATBIN).is_file()
        return str(record["nvcc"]) if fresh else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CompileError(
            f"{sources.folder / RECORD} is damaged ({first_line(error)}): install the package again."
        ) from error


def cache_folder() -> Path:
    """Where compiled kernels are kept: $XDG_CACHE_HOME/centermask/kernels, else ~/.cache/centermask/kernels."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "centermask" / "kernels"


class Nvrtc:
    """NVIDIA's run-time compiler from its wheel; needs no GPU. Raises CompileError when it is not installed."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import nvrtc
        except ImportError as error:
            raise CompileError(
                "This installation has no compiled kernels of its sources and no NVRTC to compile them: "
                f"{install_command('cuda')}."
            ) from error
        self._nvrtc = nvrtc
        try:
            major, minor = self._do("nvrtcVersion")
        except RuntimeError as error:  # cuda-bindings looks for the library at the first call
            raise CompileError(
                f"The kernels must be compiled here, but the NVRTC library cannot be loaded ({first_line(error)}): "
                "pip install nvidia-cuda-nvrtc."
            ) from error
        self.version = f"{major}.{minor}"

    def architecture_for(self, wanted: int) -> str:
        """The code to make for a GPU of capability `wanted` (90 for 9.0): its own, a near older one's, or PTX."""
        known = sorted(int(number) for number in self._do("nvrtcGetSupportedArchs"))
        older = [number for number in known if number <= wanted]
        if not older:
            raise CompileError(
                f"NVRTC {self.version} compiles for sm_{known[0]} and newer, and this GPU is sm_{wanted}: "
                "install an older nvidia-cuda-nvrtc."
            )
        # Code runs on later GPUs of the same major version; PTX on all later ones.
        return f"sm_{older[-1]}" if older[-1] // 10 == wanted // 10 else f"compute_{older[-1]}"

    def compile(self, sources: Sources, architecture: str) -> bytes:
        """A cubin for sm_XX, PTX for compute_XX. CompileError names the file that is wrong, and the line."""
        program = self._do("nvrtcCreateProgram", sources.text.encode(), sources.name.encode(), 0, [], [])
        try:
            options = [f"--gpu-architecture={architecture}", f"--include-path={sources.folder}", *kernels.OPTIONS]
            status = self._nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])[0]
            if status != self._nvrtc.nvrtcResult.NVRTC_SUCCESS:
                log = self._read(program, "ProgramLog").decode("utf-8", "replace")
                raise CompileError(f"The kernels do not compile for {architecture}: {first_message(log)}")
            return self._read(program, "CUBIN" if architecture.startswith("sm_") else "PTX")
        finally:
            self._do("nvrtcDestroyProgram", program)

    def _read(self, program: Any, what: str) -> bytes:
        size = int(self._do(f"nvrtcGet{what}Size", program))
        content = bytes(size + 1)  # NVRTC writes into it: never a one-byte object, which Python shares
        self._do(f"nvrtcGet{what}", program, content)
        return content[:size]

    def _do(self, function: str, *arguments: Any) -> Any:
        status, *results = getattr(self._nvrtc, function)(*arguments)
        if status != self._nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise CompileError(f"{function} failed with {status.name}.")
        return results[0] if len(results) == 1 else results


def first_message(log: str) -> str:
    """The first error in a compiler's output, "file(line): text"; the first line when none is recognised."""
    found = ERROR_LINE.search(log)
    if found:
        return f"{found['place']}: {found['text']}"
    return next((line for line in log.strip("\0\n ").splitlines() if line), "the compiler says nothing")

# SPDX-License-Identifier: Apache-2.0
"""Where the three packages lie, the configs and the CUDA kernels of a wheel. Everything else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent / "runtime"))
from centermask_runtime.cuda.compile import FATBIN, RECORD, CompileError  # standard library only
from centermask_runtime.cuda.fatbin import build_fatbin

KERNELS = "centermask_runtime.cuda.kernels"
CONFIGS = "centermask.configs"  # the folder configs/, which has no Python in it


class BuildWithKernels(build_py):
    """Also compiles the kernels where nvcc is found. Without it a wheel is as good: NVRTC compiles at the first use."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # sources change under it: NVRTC and its cache follow them
            return
        folder = Path(self.build_lib, *KERNELS.split("."))
        for stale in (FATBIN, RECORD):
            (folder / stale).unlink(missing_ok=True)
        try:
            self.announce(f"CUDA kernels: fatbin built by nvcc {build_fatbin(folder)}", level=3)
        except (CompileError, OSError) as error:
            self.announce(f"CUDA kernels: no fatbin, NVRTC will compile them at the first use. {error}", level=3)


setup(
    cmdclass={"build_py": BuildWithKernels},
    include_package_data=False,  # what goes in is listed here; MANIFEST.in is for the source archive
    packages=[*find_packages(include=["centermask*"]), *find_packages("export"), *find_packages("runtime"), CONFIGS],
    package_dir={
        CONFIGS: "configs",
        "centermask_export": "export/centermask_export",
        "centermask_runtime": "runtime/centermask_runtime",
    },
    package_data={
        "": ["py.typed"],
        "centermask": ["released/*.safetensors", "starting/*.safetensors"],
        "centermask_export": ["deepstream/*", "checks/images/*.png"],
        CONFIGS: ["*.yaml"],
        KERNELS: ["*.cu", "*.cuh"],
    },
)

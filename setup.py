# SPDX-License-Identifier: Apache-2.0
"""Where the three packages lie. Everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    include_package_data=False,  # what goes in is listed here; MANIFEST.in is for the source archive
    packages=find_packages(include=["centermask*"]) + find_packages("export") + find_packages("runtime"),
    package_dir={
        "centermask_export": "export/centermask_export",
        "centermask_runtime": "runtime/centermask_runtime",
    },
    package_data={
        "": ["py.typed"],
        "centermask": ["released/*.safetensors"],
        "centermask_export": ["parity_images/*.png"],
    },
)

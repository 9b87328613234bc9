# SPDX-License-Identifier: Apache-2.0
"""Where the three packages lie. Everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
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

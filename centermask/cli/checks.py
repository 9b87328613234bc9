# SPDX-License-Identifier: Apache-2.0
"""`centermask checks`: what is installed and what this machine can run."""

from __future__ import annotations

import importlib.metadata
import json

import click
import onnxruntime
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from centermask.version import __version__
from centermask_runtime.cpus import cpu_quota, usable_cpus
from centermask_runtime.cuda.facts import gpu_facts
from centermask_runtime.packages import install_command, is_installed
from centermask_runtime.speed import machine

PACKAGES = {  # of pyproject.toml: what the base install has, and each extra
    "base": ("numpy", "opencv-python", "onnxruntime", "av", "click", "pillow", "PyYAML", "rich"),
    "train": (
        "torch",
        "lightning-fabric",
        "huggingface-hub",
        "pycocotools",
        "safetensors",
        "scipy",
        "tensorboard",
        "matplotlib",
    ),
    "export": ("torch", "onnx", "onnxscript", "pycocotools", "safetensors"),
    "heif": ("pi-heif",),
    "openvino": ("openvino",),
    "tiles": ("tifffile", "imagecodecs"),
    "track": ("trackers",),
    "trt": ("tensorrt",),
    "trt-rtx": ("tensorrt-rtx",),
    "cuda": ("cuda-bindings", "nvidia-cuda-nvrtc"),
    "pycuda": ("pycuda",),
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the table.")
def checks(as_json: bool) -> None:
    """Show the versions, extras and GPU of this machine."""
    found = {extra: {package: _version(package) for package in packages} for extra, packages in PACKAGES.items()}
    facts: dict[str, object] = {
        "centermask": __version__,
        **machine(),
        "cpu_threads": usable_cpus(),
        "cpu_quota": "none" if cpu_quota() is None else f"{cpu_quota():g} CPUs",
        "onnxruntime_providers": onnxruntime.get_available_providers(),
        **gpu_facts(),
        **_pytorch_gpu(),
        "packages": found,
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    table = Table("", "found", title="This machine", title_justify="left")
    for key, value in facts.items():
        if key != "packages":
            table.add_row(key, escape(", ".join(value) if isinstance(value, list) else str(value)))
    extras = Table("extra", "", "packages", title="Installed", title_justify="left")
    for extra, versions in found.items():
        missing = [package for package, number in versions.items() if number is None]
        lines = [", ".join(f"{package} {number}" for package, number in versions.items() if number is not None)]
        if missing:
            lines.append(f"missing: {', '.join(missing)}; {install_command(extra)}")
        extras.add_row(extra, "missing" if missing else "ready", escape("\n".join(filter(None, lines))))
    Console().print(table, extras)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pytorch_gpu() -> dict[str, str]:
    """The GPU that training would take, where PyTorch is installed."""
    if not is_installed("torch"):
        return {}
    import torch  # an extra, and slow

    return {"pytorch_gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none that PyTorch can use"}

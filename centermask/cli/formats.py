# SPDX-License-Identifier: Apache-2.0
"""`centermask formats`: what a model can be exported to, what each format needs, and what is installed here."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from dataclasses import dataclass

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from centermask_export.options import DYNAMIC_FORMATS, DYNAMIC_IMGSZ_FORMATS, HEADS_FORMATS, PRECISIONS_OF
from centermask_runtime.cuda.facts import gpus


@dataclass(frozen=True)
class Format:
    """What the options of export do not say already."""

    file: str
    packages: tuple[str, ...]  # distributions that writing it needs
    extra: str  # that installs them
    needs_gpu: bool  # to write it
    runs_on: str


EXPORT = ("torch", "onnxscript", "onnx")

FORMATS = {  # by the names that --format has
    "onnx": Format(".onnx", EXPORT, "export", False, "ONNX Runtime: processors and GPUs"),
    "openvino": Format(
        ".xml, .bin", (*EXPORT, "openvino"), "export,openvino", False,
        "OpenVINO: processors, Intel GPUs and NPUs",
    ),
    "torchscript": Format(".torchscript", ("torch",), "export", False, "PyTorch and libtorch: processors"),
    "trt": Format(
        ".engine, .json", (*EXPORT, "tensorrt"), "export,trt", True, "TensorRT: the kind of GPU it was built on",
    ),
    "trt-rtx": Format(
        ".engine, .json", (*EXPORT, "tensorrt_rtx"), "export,trt-rtx", False, "TensorRT-RTX: GeForce RTX GPUs",
    ),
    "triton": Format(
        "folder", EXPORT, "export", False, "Triton Inference Server, back end onnxruntime or tensorrt"
    ),
    "deepstream": Format(
        "folder", EXPORT, "export", False, "DeepStream's nvinfer on NVIDIA GPUs; not yet tried on one"
    ),
}  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the table.")
def formats(as_json: bool) -> None:
    """List the export formats, and which can be written here.

    With their files, their precisions, and where they run.
    """
    rows = []
    for name, entry in FORMATS.items():
        versions, missing = _here(entry)
        dynamic = [axis for axis, has in (("batch", DYNAMIC_FORMATS), ("imgsz", DYNAMIC_IMGSZ_FORMATS)) if name in has]
        graphs = ["peaks", *(["heads"] if name in HEADS_FORMATS else [])]
        rows.append((name, entry, list(PRECISIONS_OF[name]), graphs, dynamic, versions, missing))
    if as_json:
        listed = [
            {
                "format": name, **dataclasses.asdict(entry), "precisions": precisions, "graphs": graphs,
                "dynamic": dynamic, "installed": versions, "missing": missing or None, "ready": not missing,
            }
            for name, entry, precisions, graphs, dynamic, versions, missing in rows
        ]  # fmt: skip
        click.echo(json.dumps({"formats": listed}))
        return
    what = Table("format", "file", "precisions", "graphs", "dynamic")
    where = Table("format", "runs on", "can be written here")
    for name, entry, precisions, graphs, dynamic, versions, missing in rows:
        own = entry.packages[-1]
        what.add_row(name, entry.file, ", ".join(precisions), ", ".join(graphs), ", ".join(dynamic) or "-")
        where.add_row(name, entry.runs_on, escape(f"no: needs {missing}") if missing else f"yes: {own} {versions[own]}")
    Console().print(what, where)
    click.echo("Write one: centermask export --model MODEL --format FORMAT. Compare two: centermask compare A B.")


def _here(entry: Format) -> tuple[dict[str, str | None], str]:
    """Installed versions, and what is missing to write the format, in words; empty where nothing is."""
    versions: dict[str, str | None] = {}
    for package in entry.packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    absent = [package for package, number in versions.items() if number is None]
    needed = [f"{', '.join(absent)} (pip install -e '.[{entry.extra}]')"] if absent else []
    if entry.needs_gpu and not gpus():
        needed.append("an NVIDIA GPU with its driver")
    return versions, " and ".join(needed)

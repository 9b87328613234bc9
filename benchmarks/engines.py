# SPDX-License-Identifier: Apache-2.0
"""Size and build time of TensorRT-RTX engines: precisions, dynamic batch, dynamic image size, graph level heads.

Weights are random, with batch norms as they start: size and build time depend on the graph, not on what it knows. Each
engine is built in a fresh process, whose start is part of the time; the export of its ONNX file is not. No GPU is
needed, and no speed of an engine is measured.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from centermask.config import load_config
from centermask.model.network import build_model
from centermask.model.weights import spec_of
from centermask_export.checks.comparison import IMAGES
from centermask_export.engines.to_tensorrt import write_tensorrt
from centermask_export.options import ExportOptions
from centermask_export.to_int8 import write_int8
from centermask_export.to_onnx import export_onnx
from centermask_runtime.images import read_image
from centermask_runtime.spec import ModelSpec
from centermask_runtime.speed import machine

CLASSES = 80
CONFIGS = Path(__file__).parents[1] / "configs"


def variants(size: int) -> dict[str, ExportOptions]:
    """Name -> options; int8 is made of the file of fp32."""
    half, double = max(32, size // 2 // 32 * 32), size * 2
    sizes = ((half, half), (size, size), (double, double))
    basic = ExportOptions(format="trt-rtx", imgsz=(size, size))
    return {
        "fp32": basic,
        "fp16": dataclasses.replace(basic, precision="fp16"),
        "bf16": dataclasses.replace(basic, precision="bf16"),
        "int8": dataclasses.replace(basic, precision="int8"),
        "fp16, heads": dataclasses.replace(basic, precision="fp16", graph="heads"),
        "fp16, batch 1 to 8": dataclasses.replace(basic, precision="fp16", dynamic=True, batch=8),
        f"fp16, batch 1 to 8, {half} to {double}": dataclasses.replace(
            basic, precision="fp16", dynamic=True, batch=8, imgsz=None, dynamic_imgsz=sizes
        ),
    }


def calibration() -> list[NDArray[np.uint8]]:
    return [read_image(path) for path in sorted(IMAGES.glob("*.png"))]


@click.command()
@click.option("--config", default="dla_34", show_default=True, help="A name in configs/.")
@click.option("--imgsz", type=int, default=512, show_default=True)
@click.option("--only", multiple=True, help="Names of variants (default: all).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the table.")
def main(config: str, imgsz: int, only: tuple[str, ...], as_json: bool) -> None:
    """Builds each engine once and prints a table."""
    torch.manual_seed(0)
    settings = load_config(CONFIGS / f"{config}.yaml")
    model = build_model(settings, CLASSES).eval()
    spec = spec_of(settings, tuple(f"class {index}" for index in range(CLASSES)), tuple(range(CLASSES)))
    wanted = {name: options for name, options in variants(imgsz).items() if not only or name in only}
    if not wanted:
        raise click.UsageError(f"--only takes: {'; '.join(variants(imgsz))}.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        onnx_file, engine = Path(folder) / "model.onnx", Path(folder) / "model.engine"
        for name, options in wanted.items():
            exported: ModelSpec = export_onnx(model, spec, onnx_file, options)
            if options.precision == "int8":
                exported = write_int8(onnx_file, exported, onnx_file, calibration())
            start = time.perf_counter()
            built = write_tensorrt(onnx_file, exported, engine, options).description
            seconds = time.perf_counter() - start
            nodes = len(onnx.load(onnx_file).graph.node)
            sizes = onnx_file.stat().st_size / 1e6, engine.stat().st_size / 1e6
            rows.append(
                {
                    "engine": name, "nodes": nodes, "onnx_mb": round(sizes[0], 1), "engine_mb": round(sizes[1], 1),
                    "build_s": round(seconds, 1), "layer_precisions": built.layer_precisions,
                    "builder": f"{built.builder} {built.builder_version}",
                }
            )  # fmt: skip
    if as_json:
        click.echo(json.dumps({"config": config, "imgsz": imgsz, "engines": rows, "machine": machine()}))
        return
    facts = machine()
    table = Table("engine", "ONNX nodes", "ONNX MB", "engine MB", "build s", title=f"{config}, {imgsz} x {imgsz}")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("engine", "nodes", "onnx_mb", "engine_mb", "build_s")))
    Console().print(table, f"{rows[0]['builder']} on {facts['cpu']}, {facts['system']}; each built once")


if __name__ == "__main__":
    main()

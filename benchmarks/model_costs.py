# SPDX-License-Identifier: Apache-2.0
"""What each config costs: parameters, operations, and the network's time in ONNX Runtime and OpenVINO on this CPU.

    python benchmarks/model_costs.py edge_n edge_s dla_46c --peer YOLO11n-seg=yolo11n-seg.onnx

Weights are random, as the time does not depend on them. All networks take turns in one process, so that a noisy machine
disturbs all alike; the ratio is to the first peer, or to the first config. A peer is any ONNX file that takes one image
(benchmarks/peers/ makes those of Ultralytics). Timed: the input to the network's outputs; not timed: letterbox, masks,
and what a peer does after its network.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.sparse_heads import Way, measure
from centermask.config import load_config
from centermask.model.cost import model_cost
from centermask.model.network import build_model
from centermask.model.weights import spec_of
from centermask_export.options import ExportOptions
from centermask_export.to_onnx import export_onnx
from centermask_runtime.speed import machine

RUNTIMES = ("onnxruntime", "openvino")


def random_model(config: str, side: int, classes: int, output: Path) -> dict[str, Any]:
    """Writes the ONNX file of a config with random weights; returns its parameters and operations."""
    settings = load_config(config, [f"input.size=[{side}, {side}]"])
    torch.manual_seed(0)
    spec = spec_of(settings, tuple(f"class {index}" for index in range(classes)), tuple(range(classes)))
    export_onnx(build_model(settings, classes).eval(), spec, output, ExportOptions(imgsz=(side, side)))
    total = model_cost(settings, classes).total
    return {"million_parameters": round(total.parameters / 1e6, 2), "gflop": round(total.sparse_flop / 1e9, 2)}


def open_onnxruntime(file: Path, threads: int) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    feed = {
        session.get_inputs()[0].name: _image(session.get_inputs()[0].shape, "uint8" in session.get_inputs()[0].type)
    }
    return lambda: session.run(None, feed)


def open_openvino(file: Path, threads: int) -> Callable[[], object]:
    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(file), "CPU", settings)
    request, source = compiled.create_infer_request(), compiled.input(0)
    image = _image(list(source.get_shape()), source.get_element_type() == openvino.Type.u8)
    return lambda: request.infer([image])


def _image(shape: list[int], is_uint8: bool) -> NDArray[Any]:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return pixels if is_uint8 else pixels.astype(np.float32) / 255


@click.command(help=__doc__)
@click.argument("configs", nargs=-1, required=True)
@click.option("--imgsz", default=512, show_default=True)
@click.option("--classes", default=80, show_default=True)
@click.option("--peer", "peers", multiple=True, metavar="NAME=FILE", help="Another ONNX file; may be repeated.")
@click.option("--threads", default=1, show_default=True)
@click.option("--rounds", default=15, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Write the results as JSON.")
def main(
    configs: tuple[str, ...], imgsz: int, classes: int, peers: tuple[str, ...], threads: int, rounds: int,
    output: Path | None,
) -> None:  # fmt: skip
    files = dict(peer.split("=", 1) for peer in peers)
    rows: dict[str, dict[str, Any]] = {name: {} for name in files}
    with tempfile.TemporaryDirectory() as folder:
        for config in configs:
            name = Path(config).stem
            files[name] = str(Path(folder) / f"{name}.onnx")
            rows[name] = random_model(config, imgsz, classes, Path(files[name]))
        for runtime, opener in zip(RUNTIMES, (open_onnxruntime, open_openvino), strict=True):
            ways = [Way(name, opener(Path(file), threads)) for name, file in files.items()]
            times = measure(ways, rounds)
            first = times[ways[0].name][1]
            for name, (_, median, _) in times.items():
                rows[name] |= {f"{runtime}_ms": round(median, 1), f"{runtime}_ratio": round(median / first, 2)}
    result = {"imgsz": imgsz, "classes": classes, "threads": threads, "rounds": rounds, "rows": rows} | {
        "machine": machine(), "onnxruntime": onnxruntime.__version__, "openvino": openvino.__version__
    }  # fmt: skip
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    keys = ("million_parameters", "gflop", *(f"{runtime}_{unit}" for runtime in RUNTIMES for unit in ("ms", "ratio")))
    table = Table("network", *keys, title=f"medians of {rounds}, {threads} thread(s)")
    for name, row in rows.items():
        table.add_row(name, *(str(row.get(key, "")) for key in keys))
    Console().print(table)


if __name__ == "__main__":
    main()

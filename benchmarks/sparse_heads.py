# SPDX-License-Identifier: Apache-2.0
"""What sparse heads and ONNX Runtime save: dense eager PyTorch, sparse eager PyTorch and the exported graph.

DLA-34, 80 classes, class-specific saliency, S = 32, K = 100, one image. Dense evaluates all five heads everywhere and
picks the K peaks afterwards, in NCHW as networks are run by default. Sparse evaluates offset, size and shape at the K
peaks only; heat map and saliency stay dense in both. Timed: uint8 image to the five outputs of graph level `peaks`.
Not timed: letterbox, masks, export. Weights are random, with batch norms calibrated, and all ways give the same
detections, which is checked first. The ways take turns, so that a noisy machine disturbs all alike.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from centermask.config import Config, InputConfig, ModelConfig
from centermask.model.network import CenterMaskNet, build_model
from centermask.model.weights import spec_of
from centermask_export.checks.comparison import IMAGES
from centermask_export.to_onnx import export_onnx
from centermask_runtime.geometry import Letterbox
from centermask_runtime.images import read_image
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.reference import preprocess
from centermask_runtime.speed import machine

CLASSES = 80
PAUSE_S = 0.05  # before each turn: threads of the way before would still spin, and slow the next one down
REQUIRED = 2.2  # sparse ONNX Runtime against dense eager PyTorch


@dataclass(frozen=True)
class Way:
    name: str
    run: Callable[[], object]


def real_image(size: int) -> NDArray[np.uint8]:
    """A microscopy image that ships with the export, as the network takes it: uint8 [1, size, size, 3]."""
    frame = read_image(sorted(IMAGES.glob("*.png"))[0])
    return preprocess.letterbox(frame, Letterbox.fit((frame.shape[0], frame.shape[1]), (size, size)))[None]


def calibrated_model(config: Config, image: NDArray[np.uint8]) -> CenterMaskNet:
    """Random weights whose batch norms fit the image, so that no activation vanishes or grows without bound."""
    torch.manual_seed(0)
    model = build_model(config, CLASSES)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model.train()
    with torch.no_grad():
        model.features(torch.from_numpy(image))
    return model.eval()


def measure(ways: list[Way], rounds: int, warmup: int = 2) -> dict[str, tuple[float, float, float]]:
    """Quartiles of each way's milliseconds; the ways take turns, and the first `warmup` turns do not count."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for turn in range(warmup + rounds):
        for way in ways:
            time.sleep(PAUSE_S)
            start = time.perf_counter()
            way.run()
            if turn >= warmup:
                times[way.name].append((time.perf_counter() - start) * 1e3)
    quartiles = {name: np.percentile(values, (25, 50, 75)).round(2).tolist() for name, values in times.items()}
    return {name: (low, median, high) for name, (low, median, high) in quartiles.items()}


def require_equal(model: CenterMaskNet, network: OnnxRuntimeNetwork, image: NDArray[np.uint8]) -> None:
    """All ways give the same K scores and saliency; a benchmark of different results would say nothing."""
    dense, sparse, exported = (
        model.peaks_dense(torch.from_numpy(image)),
        model.peaks(torch.from_numpy(image)),
        network.run(image),
    )
    for name in ("scores", "saliency"):
        truth = getattr(dense, name).numpy()
        for other in (getattr(sparse, name).numpy(), getattr(exported, name)):
            difference = float(np.abs(truth - other).max())
            assert difference < 1e-3, (name, difference)


def table_of(result: dict[str, tuple[float, float, float]], size: int, threads: int, rounds: int) -> Table:
    table = Table(title=f"DLA-34, {CLASSES} classes, {size} x {size}, {threads} threads, batch 1, fp32")
    table.caption = f"milliseconds of {rounds} interleaved rounds; speed-up against the first row"
    for heading in ("network", "median", "quartiles", "speed-up"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    base = next(iter(result.values()))[1]
    for name, (low, median, high) in result.items():
        table.add_row(name, f"{median:.1f}", f"{low:.1f}-{high:.1f}", f"{base / median:.2f}x")
    return table


@click.command(help=__doc__)
@click.option("--rounds", default=30, type=click.IntRange(1), show_default=True)
@click.option(
    "--threads", default=2, type=click.IntRange(1), show_default=True, help="Of PyTorch and ONNX Runtime alike."
)
@click.option("--size", default=512, type=click.IntRange(64), show_default=True, help="Input side, a multiple of 32.")
@click.option(
    "--check", is_flag=True, help=f"Exit with 1 unless the exported graph is {REQUIRED} times as fast as the first row."
)
def main(rounds: int, threads: int, size: int, check: bool) -> None:
    torch.set_num_threads(threads)
    config = Config("dla_34", ModelConfig(), InputConfig((size, size)))
    image = real_image(size)
    model = calibrated_model(config, image)
    names = tuple(str(number) for number in range(CLASSES))
    tensor = torch.from_numpy(image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sparse.onnx"
        export_onnx(model, spec_of(config, names, tuple(range(1, CLASSES + 1))), path)
        with OnnxRuntimeNetwork(path, threads=threads) as network, torch.inference_mode():
            require_equal(model, network, image)
            ways = [
                Way("PyTorch eager, dense heads", lambda: model.peaks_dense(tensor)),
                Way("PyTorch eager, sparse heads", lambda: model.peaks(tensor)),
                Way("ONNX Runtime, sparse heads", lambda: network.run(image)),
            ]
            result = measure(ways, rounds)
    dense, sparse, exported = (median for _, median, _ in result.values())
    Console().print(table_of(result, size, threads, rounds))
    line = {
        "benchmark": "sparse_heads", "size": size, "threads": threads, "rounds": rounds,
        "dense_torch_ms": dense, "sparse_torch_ms": sparse, "sparse_onnx_ms": exported,
        "speedup_sparse": round(dense / sparse, 3), "speedup": round(dense / exported, 3), "required": REQUIRED,
        "machine": {**machine(), "torch": torch.__version__},
    }  # fmt: skip
    print(json.dumps(line, separators=(",", ":")))
    if check and dense / exported < REQUIRED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

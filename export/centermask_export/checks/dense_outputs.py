# SPDX-License-Identifier: Apache-2.0
"""As outputs.py for graph level `heads`: dense maps, compared cell by cell, as there are no detections yet to match."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from centermask.model.network import CenterMaskNet
from centermask_export.batches import batches
from centermask_export.checks.outputs import OutputDifference, OutputsReport, bounds_of
from centermask_runtime.networks.network import HEADS_OUTPUTS
from centermask_runtime.spec import ModelSpec

Maps = tuple[NDArray[np.float32], ...]  # in the order of HEADS_OUTPUTS
# the bounds of level `peaks` as logits and cells: a score moves by a quarter of its logit at most; a cell is 4 pixels
FROM_PEAKS = {
    "heatmap": ("scores", 4.0),
    "offsets": ("boxes", 0.25),
    "sizes": ("boxes", 0.25),
    "shapes": ("shapes", 1.0),
    "saliency": ("saliency", 1.0),
}


def compare_heads(
    model: CenterMaskNet, onnx_file: Path, spec: ModelSpec, frames: Iterable[NDArray[np.uint8]], batch: int = 1
) -> OutputsReport:
    """PyTorch and ONNX Runtime on frames uint8 [H, W, 3] BGR; `matched` counts the cells of all maps."""
    run = onnx_heads(onnx_file)
    bounds = bounds_of(spec.precision)
    largest, total, count = (dict.fromkeys(HEADS_OUTPUTS, 0.0) for _ in range(3))
    runs = cells = 0
    for inputs in batches(frames, spec.input_hw, batch):
        runs += len(inputs)
        for name, one, other in zip(HEADS_OUTPUTS, torch_heads(model, inputs), run(inputs), strict=True):
            apart = np.abs(one.astype(np.float64) - other)
            largest[name] = float(np.maximum(largest[name], apart.max(initial=0)))  # keeps a NaN
            total[name] += float(apart.sum())
            count[name] += apart.size
            cells += apart.size
    return OutputsReport(
        runs, cells, 0,
        tuple(
            OutputDifference(
                name, largest[name], total[name] / max(count[name], 1),
                bounds.tolerances[FROM_PEAKS[name][0]] * FROM_PEAKS[name][1], bounds.of_mean,
            )
            for name in HEADS_OUTPUTS
        ),
        artefact=f"ONNX Runtime {ort.__version__}",
    )  # fmt: skip


def torch_heads(model: CenterMaskNet, images: NDArray[np.uint8]) -> Maps:
    with torch.inference_mode():
        return tuple(output.cpu().numpy() for output in model.heads(torch.from_numpy(images).to(model.mean.device)))


def onnx_heads(onnx_file: Path) -> Callable[[NDArray[np.uint8]], Maps]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session: Any = ort.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(HEADS_OUTPUTS, {session.get_inputs()[0].name: images}))

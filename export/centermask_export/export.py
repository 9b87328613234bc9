# SPDX-License-Identifier: Apache-2.0
"""Weights file -> checked ONNX file: export, then compare with the source on real images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask.model.torch_network import TorchNetwork
from centermask.model.weights import load_weights
from centermask_export.parity import ParityReport, compare_networks
from centermask_export.to_onnx import DEFAULT_OPSET, export_onnx
from centermask_runtime.errors import DataError
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.video.sources import frames

PARITY_IMAGES = Path(__file__).parent / "parity_images"  # CC0; real pixels make real activations
IMAGES_AT_MOST = 16


def export_checked(
    weights: Path, output: Path, *, opset: int = DEFAULT_OPSET, batch: int = 1, source: Path | None = None
) -> ParityReport:
    """Writes `output` and reports how far ONNX Runtime is from PyTorch on the images of `source`.

    The file stays when the check fails, to be looked into: call report.require before anyone uses it.
    """
    model, spec, _ = load_weights(weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    spec = export_onnx(model, spec, output, opset=opset, batch=batch, source=f"{weights.name} sha256 {digest}")
    with OnnxRuntimeNetwork(output) as network:
        return compare_networks(TorchNetwork(model, spec), network, _frames(source or PARITY_IMAGES), batch)


def _frames(source: Path) -> Iterator[NDArray[np.uint8]]:
    count = 0
    for frame in frames(source):
        yield frame.image
        count += 1
        if count == IMAGES_AT_MOST:
            return
    if count == 0:
        raise DataError(f"{source} has no image for the parity check; give a folder with .jpg or .png files.")

# SPDX-License-Identifier: Apache-2.0
"""Weights file -> checked ONNX file: export, then compare with the source on real images."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

from centermask.model.torch_network import TorchNetwork
from centermask.model.weights import load_weights
from centermask_export.parity import ParityReport, compare_networks
from centermask_export.to_onnx import DEFAULT_OPSET, export_onnx
from centermask_runtime.errors import DataError
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.video.sources import frames

PARITY_IMAGES = Path(__file__).parent / "parity_images"  # CC0; real pixels make real activations
IMAGES_AT_MOST = 16


def export_checked(
    weights: Path, output: Path, *, opset: int = DEFAULT_OPSET, batch: int = 1, source: Path | None = None
) -> ParityReport:
    """Writes `output` and reports how far ONNX Runtime is from PyTorch on the images of `source`.

    The file gets its name only when they agree; an older one stays until then. Raises ParityError when they do not.
    """
    images = [frame.image for frame in itertools.islice(frames(source or PARITY_IMAGES), IMAGES_AT_MOST)]
    if not images:
        raise DataError(f"{source} has no image for the parity check; give a folder with .jpg or .png files.")
    model, spec, _ = load_weights(weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    with PartialFile(output) as file:
        provenance = f"{weights.name} sha256 {digest}"
        spec = export_onnx(model, spec, file.partial, opset=opset, batch=batch, source=provenance)
        with OnnxRuntimeNetwork(file.partial) as network:
            report = compare_networks(TorchNetwork(model, spec), network, images, batch)
        report.require(output)
    return report

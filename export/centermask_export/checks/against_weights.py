# SPDX-License-Identifier: Apache-2.0
"""An artefact against the weights that it came from: outputs on real images, then AP where a data set is given."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask.model.network import CenterMaskNet
from centermask.model.torch_network import TorchNetwork
from centermask.opening import open_network
from centermask_export.checks import Checks
from centermask_export.checks.ap import ApReport, compare_ap
from centermask_export.checks.comparison import ON_CPU
from centermask_export.checks.dense_outputs import compare_heads
from centermask_export.checks.fixed_batch import Repeated
from centermask_export.checks.outputs import OutputsReport, compare_networks
from centermask_export.onnx_file import read_spec
from centermask_export.to_fp16 import half_precision
from centermask_runtime.networks.network import Network
from centermask_runtime.packages import is_installed
from centermask_runtime.spec import ModelSpec


@dataclass(frozen=True)
class AgainstWeights:
    """Compares artefacts of one export with its weights."""

    model: CenterMaskNet
    images: list[NDArray[np.uint8]]
    batch: int  # that the artefact takes
    checks: Checks
    name: Path  # that the artefact will have, for people

    def __call__(self, artefact: Path) -> tuple[OutputsReport, ApReport | None]:
        """Raises CheckError, with its report, where the artefact differs by more than it may."""
        if artefact.suffix == ".onnx":
            return self._compare_onnx(artefact)
        with open_network(artefact, ON_CPU) as network:
            return self._compare(network)

    def _compare_onnx(self, onnx_file: Path) -> tuple[OutputsReport, ApReport | None]:
        spec = read_spec(onnx_file)
        if spec.precision == "bf16":  # ONNX Runtime has no kernels for it
            with tempfile.TemporaryDirectory() as folder, self._bf16_network(onnx_file, spec, Path(folder)) as network:
                return self._compare(network)
        if spec.graph_level == "heads":
            outputs = compare_heads(self.model, onnx_file, spec, self.images, self.batch)
            outputs.require(self.name)
            return outputs, None
        with open_network(onnx_file, ON_CPU) as network:
            return self._compare(network)

    def _compare(self, network: Network) -> tuple[OutputsReport, ApReport | None]:
        expected = TorchNetwork(self.model, dataclasses.replace(network.spec, precision="fp32"))
        outputs = compare_networks(expected, network, self.images, self.batch)
        outputs.require(self.name)
        if self.checks.dataset is None:
            return outputs, None
        single = Repeated(network, network.batch or 1)
        ap = compare_ap(
            expected, single, self.checks.dataset, max_ap_drop=self.checks.max_ap_drop, progress=self.checks.progress
        )
        ap.require(self.name)
        return outputs, ap

    def _bf16_network(self, onnx_file: Path, spec: ModelSpec, folder: Path) -> Network:
        """OpenVINO with the file, or PyTorch with the same arithmetic."""
        if spec.graph_level == "heads" or not is_installed("openvino"):
            return TorchNetwork(half_precision(self.model, "bf16"), spec)
        return openvino_network(onnx_file, spec, folder)


def openvino_network(onnx_file: Path, spec: ModelSpec, folder: Path) -> Network:
    """An ONNX file run by OpenVINO, whose model of it goes into `folder`."""
    from centermask_export.to_openvino import write_openvino  # needs an extra

    written = write_openvino(onnx_file, spec, folder / "check.xml", precision=spec.precision)
    return open_network(written, ON_CPU)

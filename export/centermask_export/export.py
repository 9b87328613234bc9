# SPDX-License-Identifier: Apache-2.0
"""Weights -> a checked artefact: an ONNX file, compared with the weights on real images, then what is made of it.

What runs on this machine's CPU is compared itself; an engine is built from an ONNX file that was compared. Nothing gets
its name before it agrees, and an older file stays until then.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask.data.dataset import Dataset
from centermask.model.network import CenterMaskNet
from centermask.model.torch_network import TorchNetwork
from centermask.model.weights import load_weights
from centermask_export.checks.ap import MAX_AP_DROP, ApReport, verify_ap
from centermask_export.checks.dense_outputs import compare_heads
from centermask_export.checks.fixed_batch import Repeated
from centermask_export.checks.outputs import ParityReport, compare_networks
from centermask_export.convert import (
    Written,
    default_name,
    open_artefact,
    openvino_network,
    publish,
    require_engine_builder,
    workshop,
    write_artefact,
)
from centermask_export.gpu import Gpu
from centermask_export.options import ExportOptions
from centermask_export.to_fp16 import half_precision
from centermask_export.to_int8 import calibration_count, calibration_images, write_int8
from centermask_export.to_onnx import export_onnx, sized
from centermask_runtime.checksum import sha256_of
from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.networks.network import Network
from centermask_runtime.progress import Progress, silent
from centermask_runtime.sources.files import frames
from centermask_runtime.spec import ModelSpec

PARITY_IMAGES = Path(__file__).parent / "parity_images"  # CC0; real pixels make real activations
IMAGES_AT_MOST = 16

EngineProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Checks:
    """How an export is checked, and who is told of it."""

    source: Path | None = None  # images for the comparison; None: two that ship
    dataset: Dataset | None = None  # for AP; None: not measured
    max_ap_drop: float = MAX_AP_DROP
    progress: Progress = silent
    engine_progress: EngineProgress | None = None


@dataclass(frozen=True)
class ExportReport:
    written: Written
    parity: ParityReport
    ap: ApReport | None = None

    @property
    def artefact_ran(self) -> bool:
        """Whether the compared one is the artefact itself, not the ONNX file that it was made of."""
        return self.written.engine is None and self.written.output.is_file()


def export_checked(
    weights: Path,
    output: Path,
    options: ExportOptions = ExportOptions(),  # noqa: B008 - frozen
    *,
    source: Path | None = None,
) -> ParityReport:
    """export_model for whoever only asks how far `output` is from PyTorch."""
    return export_model(weights, output.parent, output, options, Checks(source)).parity


def export_model(
    weights: Path, folder: Path, output: Path | None, options: ExportOptions, checks: Checks = Checks()
) -> ExportReport:
    """Writes the artefact, in `folder` under its default name unless `output` names it.

    Raises UsageError before any work where the options cannot be met here; ParityError and ApDropError, with their
    reports, where the artefact differs from the weights.
    """
    options.require_calibration()
    if checks.dataset is not None and options.graph == "heads":
        raise UsageError("--verify measures detections, but --graph heads ends before them; leave one of them out.")
    gpu = require_engine_builder(options, weights)
    if options.calib_data is not None:
        calibration_count(options.calib_data, options.fraction)
    images = [frame.image for frame in itertools.islice(frames(checks.source or PARITY_IMAGES), IMAGES_AT_MOST)]
    if not images:
        raise DataError(f"{checks.source} has no image for the parity check; give a folder with .jpg or .png files.")
    model, spec, _ = load_weights(weights)
    sized(spec, options)
    target = output or folder / default_name(weights.stem, options)
    with workshop(target) as shop:
        job = _Job(model, spec, options, checks, images, shop, target)
        if options.format == "torchscript":
            return job.torchscript()
        provenance = f"{weights.name} sha256 {sha256_of(weights)}"
        return job.onnx_and_more(provenance, folder, weights.stem, output, gpu)


@dataclass(frozen=True)
class _Job:
    model: CenterMaskNet
    spec: ModelSpec
    options: ExportOptions
    checks: Checks
    images: list[NDArray[np.uint8]]
    shop: Path
    target: Path

    def torchscript(self) -> ExportReport:
        from centermask.model.torchscript_network import TorchScriptNetwork
        from centermask_export.to_torchscript import write_torchscript

        draft = self.shop / self.target.name
        spec = dataclasses.replace(sized(self.spec, self.options), precision="fp32", graph_level="peaks")
        write_torchscript(self.model, spec, draft, batch=self.options.batch)
        with TorchScriptNetwork(draft) as network:
            parity, ap = self._compare(network, spec)
        publish(draft, self.target)
        return ExportReport(Written(self.target, "fp32"), parity, ap)

    def onnx_and_more(
        self, provenance: str, folder: Path, stem: str, output: Path | None, gpu: Gpu | None
    ) -> ExportReport:
        options = self.options
        (self.shop / "onnx").mkdir()
        # a large graph names its weights by its own file name
        onnx_file = self.shop / "onnx" / (self.target.name if options.format == "onnx" else f"{stem}.onnx")
        spec = self._write_onnx(onnx_file, provenance)
        if options.format == "openvino":
            draft = write_artefact(onnx_file, spec, self.shop, stem, self.shop / self.target.name, options)
            network = open_artefact(draft.output, options.format)
            assert network is not None
            with network:
                parity, ap = self._compare(network, dataclasses.replace(spec, precision=options.precision))
            publish(draft.output, self.target)
            return ExportReport(Written(self.target, options.precision), parity, ap)
        parity, ap = self._compare_onnx(onnx_file, spec)
        if options.format == "onnx":
            publish(onnx_file, self.target)
            return ExportReport(Written(self.target, options.precision), parity, ap)
        written = write_artefact(
            onnx_file, spec, folder, stem, output, options, gpu=gpu, progress=self.checks.engine_progress
        )
        return ExportReport(written, parity, ap)

    def _write_onnx(self, onnx_file: Path, provenance: str) -> ModelSpec:
        if self.options.onnx_precision != "int8":
            return self._export(onnx_file, provenance)
        assert self.options.calib_data is not None
        fp32 = self.shop / "fp32.onnx"
        spec = self._export(fp32, provenance)
        calibration = calibration_images(self.options.calib_data, self.options.fraction, self.checks.progress)
        return write_int8(fp32, spec, onnx_file, calibration)

    def _export(self, onnx_file: Path, provenance: str) -> ModelSpec:
        return export_onnx(self.model, self.spec, onnx_file, self.options, source=provenance)

    def _compare_onnx(self, onnx_file: Path, spec: ModelSpec) -> tuple[ParityReport, ApReport | None]:
        if spec.precision == "bf16":  # ONNX Runtime has no kernels for it
            network = None if spec.graph_level == "heads" else openvino_network(onnx_file, spec, self.shop)
            network = network or TorchNetwork(half_precision(self.model, "bf16"), spec)
            with network:
                return self._compare(network, spec)
        if spec.graph_level == "heads":
            return compare_heads(self.model, onnx_file, spec, self.images, self.options.batch), None
        network = open_artefact(onnx_file, "onnx")
        assert network is not None
        with network:
            return self._compare(network, spec)

    def _compare(self, network: Network, spec: ModelSpec) -> tuple[ParityReport, ApReport | None]:
        expected = TorchNetwork(self.model, dataclasses.replace(spec, precision="fp32"))
        parity = compare_networks(expected, network, self.images, self.options.batch)
        parity.require(self.target)
        if self.checks.dataset is None:
            return parity, None
        fixed = 1 if self.options.dynamic else self.options.batch
        ap = verify_ap(
            expected, Repeated(network, fixed), self.checks.dataset,
            max_ap_drop=self.checks.max_ap_drop, progress=self.checks.progress,
        )  # fmt: skip
        ap.require(self.target)
        return parity, ap

# SPDX-License-Identifier: Apache-2.0
"""Weights -> a checked artefact: an ONNX file, compared with the weights on real images, then what is made of it.

What runs on this machine's CPU is compared itself; an engine is built from an ONNX file that was compared. Nothing gets
its name before it agrees, and an older file stays until then.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from centermask.model.network import CenterMaskNet
from centermask.model.weights import load_weights
from centermask_export.checks import Checks
from centermask_export.checks.against_weights import AgainstWeights
from centermask_export.checks.comparison import comparison_images
from centermask_export.checks.outputs import OutputsReport
from centermask_export.engines.build_engine import BuildProgress
from centermask_export.options import ExportOptions, sized
from centermask_export.output import Target, publish, workshop
from centermask_export.refusals import accept
from centermask_export.request import ExportReport, Request
from centermask_export.to_int8 import calibration_count, calibration_images, write_int8
from centermask_export.to_onnx import export_onnx
from centermask_runtime.checksum import sha256_of
from centermask_runtime.errors import UsageError
from centermask_runtime.progress import Progress
from centermask_runtime.spec import ModelSpec


def export_checked(
    weights: Path, output: Path, options: ExportOptions | None = None, *, source: Path | None = None
) -> OutputsReport:
    """As export_model, for whoever only asks how far `output` is from PyTorch."""
    outputs = export_model(weights, output.parent, output, options, Checks(source)).outputs
    assert outputs is not None
    return outputs


def export_model(
    weights: Path,
    folder: Path,
    output: Path | None = None,
    options: ExportOptions | None = None,
    checks: Checks | None = None,
    *,
    progress: BuildProgress | None = None,
    command: str = "",
) -> ExportReport:
    """Writes the artefact, in `folder` under a name that says what it is unless `output` names it.

    progress: of an engine's build; command: what builds it on another machine. Raises UsageError before any work where
    the options cannot be met here; CheckError, with its report, where the artefact differs from the weights.
    """
    options, checks = options or ExportOptions(), checks or Checks()
    kind, gpu = accept(options, output, command)
    _refuse(options, checks)
    images = comparison_images(checks.source)
    model, spec, _ = load_weights(weights)
    if options.imgsz == spec.input_hw:  # no wish, and the name need not say it
        options = dataclasses.replace(options, imgsz=None)
    spec = sized(spec, options)
    target = Target(folder, weights.stem, kind.ending, output)
    place = target.path(options)
    with workshop(place) as shop:
        source = weights
        if kind.made_of_onnx:  # under its last name from the start: a large graph names the file of its weights
            source = shop / "onnx" / (place.name if kind.ending == ".onnx" else f"{weights.stem}.onnx")
            provenance = f"{weights.name} sha256 {sha256_of(weights)}"
            spec = _write_onnx(model, spec, source, kind.graph_options(options), provenance, checks.progress)
        check = AgainstWeights(model, images, options.batch, checks, place)
        if not kind.compared:
            outputs, ap = check(source)
            written = kind.write(Request(source, spec, target, options, gpu, progress))
            return ExportReport(written, outputs, ap, artefact_ran=False)
        draft = dataclasses.replace(target, output=shop / place.name)
        written = kind.write(Request(source, spec, draft, options, gpu, progress))
        outputs, ap = check(written.output)
        publish(written.output, place)
    return ExportReport(dataclasses.replace(written, output=place), outputs, ap)


def _refuse(options: ExportOptions, checks: Checks) -> None:
    """Raises UsageError for wishes that weights cannot meet, DataError where there is no image to calibrate with."""
    if options.precision == "int8" and options.calib_data is None:
        raise UsageError(
            "precision int8 needs calib_data, a folder of images like those the model will see: the ranges of int8 "
            "come from them."
        )
    if checks.dataset is not None and options.graph == "heads":
        raise UsageError("AP is of detections, but a graph of level heads ends before them; leave one of them out.")
    if options.calib_data is not None:
        calibration_count(options.calib_data, options.fraction)


def _write_onnx(
    model: CenterMaskNet,
    spec: ModelSpec,
    output: Path,
    options: ExportOptions,
    provenance: str,
    progress: Progress,
) -> ModelSpec:
    """The ONNX file that comes first; int8 is made of one in fp32."""
    if options.precision != "int8":
        return export_onnx(model, spec, output, options, source=provenance)
    assert options.calib_data is not None
    fp32 = output.with_name(f"fp32_{output.name}")
    spec = export_onnx(model, spec, fp32, options, source=provenance)
    return write_int8(fp32, spec, output, calibration_images(options.calib_data, options.fraction, progress))

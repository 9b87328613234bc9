# SPDX-License-Identifier: Apache-2.0
"""An exported ONNX file -> what is made of it. No torch: an ONNX file becomes an engine where it will run.

What runs on this machine's CPU is compared with the file, and gets its name when it agrees.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from centermask.opening import open_network
from centermask_export.checks.comparison import ON_CPU, comparison_images
from centermask_export.checks.outputs import compare_networks
from centermask_export.engines.build_engine import BuildProgress
from centermask_export.formats import Format
from centermask_export.onnx_file import read_graph, read_spec
from centermask_export.options import ExportOptions, size_text, sized
from centermask_export.output import Target, publish, workshop
from centermask_export.refusals import accept, format_of
from centermask_export.request import ExportReport, Request
from centermask_runtime.errors import ModelError, UsageError
from centermask_runtime.spec import ModelSpec


def convert_onnx(
    onnx_file: Path,
    folder: Path,
    output: Path | None,
    options: ExportOptions,
    *,
    progress: BuildProgress | None = None,
    command: str = "",
) -> ExportReport:
    """Writes the artefact, in `folder` under a name that says what it is unless `output` names it.

    progress: of an engine's build; command: what builds it on another machine. Raises UsageError where the options ask
    for another graph than the file has, ModelError where the format is made of the weights, CheckError, with its
    report, where the artefact differs from the file.
    """
    kind, gpu = accept(options, output, command)
    if not kind.made_of_onnx or kind.ending == ".onnx":
        raise ModelError(f"{onnx_file} is exported already; the format {kind.name} is made of .safetensors weights.")
    spec = read_spec(onnx_file)
    options = _fitting(onnx_file, spec, kind, options)
    format_of(options)  # which cannot hold every file
    target = Target(folder, onnx_file.stem, kind.ending, output, of_artefact=True)
    request = Request(onnx_file, spec, target, options, gpu, progress)
    if not kind.compared or spec.precision == "bf16":  # nothing here runs it, or the file: see the table of formats
        return ExportReport(kind.write(request))
    place = request.output
    with workshop(place) as shop:
        draft = dataclasses.replace(target, output=shop / place.name)
        written = kind.write(dataclasses.replace(request, target=draft))
        with open_network(onnx_file, ON_CPU) as source, open_network(written.output, ON_CPU) as artefact:
            outputs = compare_networks(source, artefact, comparison_images(), artefact.batch or 1)
        outputs = dataclasses.replace(outputs, source=f"{onnx_file.name} in {source.description}")
        outputs.require(place)
        publish(written.output, place)
    return ExportReport(dataclasses.replace(written, output=place), outputs)


def _fitting(onnx_file: Path, spec: ModelSpec, kind: Format, options: ExportOptions) -> ExportOptions:
    """The options with what the file has already. Raises UsageError where they ask for something else."""
    rounds = spec.precision == "fp32" and options.precision in kind.rounds
    asked_for = {
        "precision": options.precision not in ("fp32", spec.precision) and not rounds,
        "graph": options.graph not in ("peaks", spec.graph_level),
        "imgsz": options.imgsz is not None and options.imgsz != spec.input_hw,
        "opset": options.opset is not None,
    }
    for name, differs in asked_for.items():
        if differs:
            raise UsageError(
                f"{name} cannot change {onnx_file}, which is exported already ({spec.precision}, level "
                f"{spec.graph_level}, {size_text(spec.input_hw)}); export the .safetensors weights again."
            )
    (image,) = read_graph(onnx_file, weights=False).graph.input
    fixed, *sides = (side.dim_value for side in image.type.tensor_type.shape.dim)
    if fixed and (options.dynamic or options.batch not in (1, fixed)):
        raise UsageError(
            f"{onnx_file} takes batches of {fixed} only; export the weights again with this batch, or a dynamic one."
        )
    if options.dynamic_imgsz is not None and all(sides):
        raise UsageError(
            f"{onnx_file} takes images of {sides[0]}x{sides[1]} only; export the weights again with dynamic_imgsz."
        )
    if options.dynamic_imgsz is not None:
        sized(spec, options)
    precision = options.precision if rounds else spec.precision
    return dataclasses.replace(options, precision=precision, graph=spec.graph_level, imgsz=None)

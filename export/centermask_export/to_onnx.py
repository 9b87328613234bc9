# SPDX-License-Identifier: Apache-2.0
"""A model -> one ONNX file of graph level `peaks` or `heads`: uint8 in, no plugin, its ModelSpec inside.

Precision fp32, fp16 or bf16; int8 is made from the fp32 file (to_int8.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from centermask.model.network import CenterMaskNet
from centermask.version import __version__
from centermask_export.onnx_file import EXTERNAL_FROM, as_export_error, write_onnx
from centermask_export.options import ExportOptions, sized
from centermask_export.to_fp16 import DTYPES, half_precision
from centermask_runtime.errors import ExportError, first_line
from centermask_runtime.networks.gpu_network import INPUT_NAME, OUTPUT_NAMES
from centermask_runtime.spec import METADATA_KEY, ModelSpec

LARGEST_BATCH, LARGEST_SIDE = 1024, 16384  # of dynamic graphs: the exporter wants an end


class Graph(nn.Module):
    """Exactly what is exported: images uint8 [N, H, W, 3] BGR -> the outputs of the level, as OUTPUT_NAMES has them."""

    def __init__(self, model: CenterMaskNet, level: str) -> None:
        super().__init__()
        self.model = model
        self.level = level

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.heads(images) if self.level == "heads" else self.model.peaks(images))


def export_onnx(
    model: CenterMaskNet,
    spec: ModelSpec,
    output: Path,
    options: ExportOptions | None = None,
    *,
    source: str = "",
    external_from: int = EXTERNAL_FROM,
) -> ModelSpec:
    """Writes `output` and returns the spec that it carries; an existing file is replaced only by a complete new one.

    Of the options it takes graph, precision (int8 is made of fp32), batch, dynamic, dynamic_imgsz, imgsz, graph_opset.
    source: what was exported, for the provenance. Raises UsageError or ExportError.
    """
    options = options or ExportOptions()
    precision = "fp32" if options.precision == "int8" else options.precision
    spec = dataclasses.replace(
        sized(spec, options),
        graph_level=options.graph,
        precision=precision,
        provenance={
            **spec.provenance,
            "exported_with": f"centermask {__version__}, torch {torch.__version__}",
            "source": source,
        },
    )
    exported = half_precision(model, precision, options.graph) if precision in DTYPES else model.eval()
    # no dynamic side may be 1 in the example, which the exporter takes for a constant
    batch = max(options.batch, 2) if options.dynamic else options.batch
    images = torch.zeros(batch, *spec.input_hw, 3, dtype=torch.uint8)
    with _torch_errors(), _quiet():
        program = torch.onnx.export(
            Graph(exported, options.graph), (images,),
            dynamo=True, opset_version=options.graph_opset, verbose=False,
            dynamic_shapes=_dynamic_shapes(options, spec.size_multiple),
            input_names=[INPUT_NAME], output_names=list(OUTPUT_NAMES[options.graph]),
        )  # fmt: skip
        assert program is not None
        graph = program.model_proto
    _require_opset(graph, options.graph_opset)
    _name_sides(graph)
    onnx.helper.set_model_props(graph, {METADATA_KEY: spec.to_json()})
    graph.producer_name, graph.producer_version = "centermask", __version__
    write_onnx(graph, output, external_from=external_from)
    return spec


def _dynamic_shapes(options: ExportOptions, size_multiple: int) -> Any:
    axes: dict[int, Any] = {}
    if options.dynamic:
        axes[0] = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    if options.dynamic_imgsz:
        for axis, name in ((1, "rows"), (2, "columns")):  # of size_multiple pixels
            axes[axis] = size_multiple * torch.export.Dim(name, min=1, max=LARGEST_SIDE // size_multiple)
    return {INPUT_NAME: axes} if axes else None


def _name_sides(graph: onnx.ModelProto) -> None:
    """Outputs and inner tensors call their sides as the input does, where the exporter numbers them anew."""
    last = graph.graph.output[-1].type.tensor_type.shape.dim  # saliency [N, Cs, h, w]
    for dim, name in ((last[2], "rows"), (last[3], "columns")):
        found = re.search(r"\bs\d+\b", dim.dim_param)
        if found is None:
            continue
        symbol = re.compile(rf"\b{found[0]}\b")
        for value in (*graph.graph.output, *graph.graph.value_info):
            for side in value.type.tensor_type.shape.dim:
                if side.dim_param:
                    side.dim_param = symbol.sub(name, side.dim_param)


def _require_opset(graph: onnx.ModelProto, opset: int) -> None:
    got = {entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")}
    if got != {opset}:
        raise ExportError(
            f"Opset {opset} was asked for, but the exporter wrote {sorted(got)}; choose opset {max(got)}."
        )


@contextlib.contextmanager
def _torch_errors() -> Iterator[None]:
    with as_export_error():
        try:
            yield
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"The export to ONNX failed ({first_line(error)}); nothing was written.") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's own warnings are about its internals; errors still raise."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

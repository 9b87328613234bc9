# SPDX-License-Identifier: Apache-2.0
"""A model -> one ONNX file of graph level `peaks`: uint8 in, K detections out, no plugin, its ModelSpec inside."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from centermask import __version__
from centermask.model.network import CenterMask
from centermask_runtime.errors import ExportError, UsageError, first_line
from centermask_runtime.networks.network import PEAKS_OUTPUTS
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.spec import METADATA_KEY, ModelSpec

DEFAULT_OPSET = 18  # newer ones lack kernels in ONNX Runtime's CUDA provider
OPSETS = range(18, 24)
INPUT_NAME = "images"
EXPORTER_ERRORS = (
    OSError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,  # of the checker's full check
    torch.onnx.errors.OnnxExporterError,
)


class PeaksGraph(nn.Module):
    """Exactly what is exported: images uint8 [N, H, W, 3] BGR -> the five outputs of PEAKS_OUTPUTS."""

    def __init__(self, model: CenterMask) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.peaks(images))


def export_onnx(
    model: CenterMask, spec: ModelSpec, output: Path, *, opset: int = DEFAULT_OPSET, batch: int = 1, source: str = ""
) -> ModelSpec:
    """Writes `output` and returns the spec that it carries; an existing file is replaced only by a complete new one.

    batch is fixed in the graph. source: what was exported, for the provenance. Raises UsageError or ExportError.
    """
    if opset not in OPSETS:
        raise UsageError(f"--opset {opset} is not supported; choose {OPSETS.start} to {OPSETS.stop - 1}.")
    if batch < 1:
        raise UsageError(f"--batch must be at least 1, not {batch}.")
    spec = dataclasses.replace(
        spec,
        graph_level="peaks",
        precision="fp32",
        provenance={
            **spec.provenance,
            "exported_with": f"centermask {__version__}, torch {torch.__version__}",
            "source": source,
        },
    )
    images = torch.zeros(batch, *spec.input_hw, 3, dtype=torch.uint8)
    with _as_export_error(), PartialFile(output) as file:
        with _quiet():
            torch.onnx.export(
                PeaksGraph(model.eval()), (images,), file.partial,
                dynamo=True, opset_version=opset, external_data=False, verbose=False,
                input_names=[INPUT_NAME], output_names=list(PEAKS_OUTPUTS),
            )  # fmt: skip
        graph = onnx.load(file.partial)
        _require_opset(graph, opset)
        onnx.helper.set_model_props(graph, {METADATA_KEY: spec.to_json()})
        graph.producer_name, graph.producer_version = "centermask", __version__
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, file.partial)
    return spec


def _require_opset(graph: onnx.ModelProto, opset: int) -> None:
    got = {entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")}
    if got != {opset}:
        raise ExportError(
            f"Opset {opset} was asked for, but the exporter wrote {sorted(got)}; choose --opset {max(got)}."
        )


@contextlib.contextmanager
def _as_export_error() -> Iterator[None]:
    try:
        yield
    except EXPORTER_ERRORS as error:
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

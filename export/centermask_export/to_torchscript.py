# SPDX-License-Identifier: Apache-2.0
"""A model -> one TorchScript file of graph level `peaks`, traced, with its ModelSpec among the extra files.

For programs that load models with libtorch or torch.jit.load. The trace keeps the device that it was made on, which is
the CPU here: a graph for a GPU is better made as ONNX or TensorRT.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from pathlib import Path

import torch

from centermask.model.network import CenterMaskNet
from centermask.model.torchscript_network import SPEC_FILE
from centermask.model.weights import load_weights
from centermask.version import __version__
from centermask_export.request import Request, Written
from centermask_export.to_onnx import Graph
from centermask_runtime.errors import ExportError, UsageError, first_line
from centermask_runtime.partial_file import write_whole
from centermask_runtime.spec import ModelSpec


def write(request: Request) -> Written:
    """Writes the .torchscript file of a request, whose source is the weights."""
    model, _, _ = load_weights(request.source)
    spec = dataclasses.replace(request.spec, precision="fp32", graph_level="peaks")
    return Written(write_torchscript(model, spec, request.output, batch=request.options.batch), "fp32")


def write_torchscript(model: CenterMaskNet, spec: ModelSpec, output: Path, *, batch: int = 1) -> Path:
    """Writes `output` (.torchscript) and returns it; an existing file is replaced only by a complete new one.

    batch: of the images that the trace is made with. Raises UsageError or ExportError.
    """
    if batch < 1:
        raise UsageError(f"batch must be at least 1, not {batch}.")
    if output.suffix != ".torchscript":
        raise UsageError(f"A TorchScript model is a .torchscript file; {output} is not.")
    exported_with = f"centermask {__version__}, torch {torch.__version__}"
    spec = dataclasses.replace(
        spec, graph_level="peaks", precision="fp32", provenance={**spec.provenance, "exported_with": exported_with}
    )
    graph = Graph(model.eval(), "peaks")
    images = torch.randint(0, 256, (batch, *spec.input_hw, 3), dtype=torch.uint8, device=model.mean.device)
    content = io.BytesIO()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that torch.export is newer; and sizes that are constants here
            traced = torch.jit.trace(graph, (images,), check_trace=False)  # type: ignore[no-untyped-call, unused-ignore]
            torch.jit.save(traced, content, _extra_files={SPEC_FILE: spec.to_json()})  # type: ignore[no-untyped-call, unused-ignore]
    except RuntimeError as error:
        raise ExportError(f"The export to TorchScript failed ({first_line(error)}); nothing was written.") from error
    write_whole(output, content.getvalue())
    return output

# SPDX-License-Identifier: Apache-2.0
"""fp32 ONNX -> int8 by ONNX Runtime's static quantisation: QuantizeLinear and DequantizeLinear around convolutions.

Only convolutions, as they are nearly all of the work; symmetric, weights per output channel, ranges of activations from
real images. The last convolutions of heat map and saliency stay in floating point: their sigmoids are the result, and
one of 256 steps there is a visible part of a score. Indices, scalars and the sparse heads stay as they are, which
TensorRT demands of the first and accuracy of the last.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from centermask_export.batches import batches, images_of
from centermask_export.onnx_file import EXTERNAL_FROM, read_graph, weight_bytes, write_onnx
from centermask_runtime.errors import DataError, ExportError, first_line
from centermask_runtime.progress import Progress
from centermask_runtime.spec import METADATA_KEY, ModelSpec

KEPT_HEADS = ("heatmap.2.weight", "saliency.2.weight")  # ends of the names of weights that stay in floating point
QUANTISED = ("Conv",)


class CalibrationBatches(CalibrationDataReader):  # type: ignore[misc]
    """Batches as ONNX Runtime's calibration asks for them: one at a time, by the name of the graph's input."""

    def __init__(self, batches: Iterator[NDArray[np.uint8]], input_name: str) -> None:
        self.batches = batches
        self.input_name = input_name

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self.batches, None)
        return None if batch is None else {self.input_name: batch}


def calibration_count(source: Path, fraction: float | None) -> tuple[int, int]:
    """How many frames `source` has and how many of them to use: the fraction, at least one. Raises DataError."""
    count = sum(1 for _ in images_of(source))
    if count == 0:
        raise DataError(f"{source} has no image to calibrate with; give a folder with .jpg or .png files.")
    return count, max(1, math.ceil(count * (1.0 if fraction is None else fraction)))


def calibration_images(source: Path, fraction: float | None, progress: Progress) -> Iterator[NDArray[np.uint8]]:
    """Images uint8 [H, W, 3] spread evenly over the source, so that a fraction sees all of its scenes."""
    count, used = calibration_count(source, fraction)
    chosen = {index * count // used for index in range(used)}
    picked = (image for index, image in enumerate(images_of(source)) if index in chosen)
    for _ in progress(iter(range(used)), used, "calibrate"):
        yield next(picked)


def write_int8(onnx_file: Path, spec: ModelSpec, output: Path, images: Iterable[NDArray[np.uint8]]) -> ModelSpec:
    """Writes `output`, returns its spec. onnx_file is fp32; images are BGR of any size. Raises ExportError."""
    graph = read_graph(onnx_file)
    (input_value,) = graph.graph.input
    batch = input_value.type.tensor_type.shape.dim[0].dim_value or 1  # 0: dynamic
    reader = CalibrationBatches(batches(images, spec.input_hw, batch), input_value.name)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder, _quiet():
        quantised = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                str(onnx_file), str(quantised), reader,
                quant_format=QuantFormat.QDQ, op_types_to_quantize=list(QUANTISED), per_channel=True,
                activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, nodes_to_exclude=kept_nodes(graph),
                calibrate_method=CalibrationMethod.MinMax,
                use_external_data_format=weight_bytes(graph) >= EXTERNAL_FROM,
                extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
            )  # fmt: skip
        except (ValueError, RuntimeError, OSError) as error:
            raise ExportError(f"The calibration of int8 failed ({first_line(error)}); nothing was written.") from error
        result = onnx.load(quantised)
    spec = dataclasses.replace(spec, precision="int8")
    onnx.helper.set_model_props(result, {METADATA_KEY: spec.to_json()})
    result.producer_name, result.producer_version = graph.producer_name, graph.producer_version
    write_onnx(result, output)
    return spec


def kept_nodes(graph: onnx.ModelProto) -> list[str]:
    """Names of the convolutions whose outputs are logits of heat map or saliency."""
    return [
        node.name
        for node in graph.graph.node
        if node.op_type == "Conv" and any(name.endswith(KEPT_HEADS) for name in node.input)
    ]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime advises on the root logger to pre-process the graph, which is done already."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)

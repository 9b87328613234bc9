# SPDX-License-Identifier: Apache-2.0
"""ONNX file, or a TensorRT engine made of it -> a model repository that Triton Inference Server serves as it is.

<repository>/<model name>/config.pbtxt     shapes, batching, warm-up; the ModelSpec among its parameters
                          labels.txt       class names, a line each, in the order of the labels
                          1/model.onnx     or model.plan, with the engine's own .json beside it

Clients ask the server for the configuration, so they need no other file. labels.txt is not the `label_filename` of an
output: that is for outputs where class i is at index i, and here `labels` holds the indices themselves.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import onnx

from centermask_export.engines.to_tensorrt import write_tensorrt
from centermask_export.onnx_file import files_of, read_graph
from centermask_export.output import whole_folder
from centermask_export.request import Request, Written
from centermask_runtime.errors import UsageError
from centermask_runtime.spec import METADATA_KEY, ModelSpec

TYPES = {
    onnx.TensorProto.UINT8: "TYPE_UINT8",
    onnx.TensorProto.INT32: "TYPE_INT32",
    onnx.TensorProto.FLOAT: "TYPE_FP32",
    onnx.TensorProto.FLOAT16: "TYPE_FP16",
}
LARGEST_BATCH = 8  # that the server collects for a dynamic graph, unless the options say otherwise
QUEUE_DELAY_US = 1000  # how long a request may wait for others to share its batch; small beside a frame of 33 ms


def write(request: Request) -> Written:
    """Adds the model of a request to its repository; with the back end tensorrt, as an engine that is built here."""
    options = request.options
    if options.backend != "tensorrt":
        most = options.batch if options.batch > 1 else LARGEST_BATCH
        folder = write_triton(request.source, request.spec, request.output, max_batch=most)
        return Written(folder, options.precision)
    with tempfile.TemporaryDirectory(prefix="centermask-") as temporary:
        plan = Path(temporary) / "model.plan"
        engine = write_tensorrt(request.source, request.spec, plan, options, gpu=request.gpu, progress=request.progress)
        folder = write_triton(request.source, request.spec, request.output, plan=plan, max_batch=options.batch)
    return Written(folder, engine.description.precision, engine)


def write_triton(
    onnx_file: Path, spec: ModelSpec, output: Path, *, plan: Path | None = None, max_batch: int = LARGEST_BATCH
) -> Path:
    """Adds the model to the repository folder `output` and returns its folder, output / spec.name.

    plan: serve this engine of the same graph (back end tensorrt) instead of the ONNX file (back end onnxruntime).
    max_batch: of a graph whose batch is dynamic; of an engine, what its profile allows. Raises UsageError, ModelError,
    ExportError.
    """
    if spec.graph_level != "peaks":
        raise UsageError(f"Triton needs a graph of level peaks, not {spec.graph_level}: clients read detections.")
    if max_batch < 1:
        raise UsageError(f"The largest batch must be at least 1, not {max_batch}.")
    if not spec.name or Path(spec.name).name != spec.name:
        raise UsageError(f"The name '{spec.name}' cannot be a folder of a Triton repository; give the model another.")
    graph = read_graph(onnx_file, weights=False)
    folder = output / spec.name
    with whole_folder(folder, "config.pbtxt") as draft:
        version = draft / "1"
        version.mkdir()
        if plan is None:
            for file in files_of(onnx_file):  # external weights keep the name that the graph knows
                shutil.copyfile(file, version / ("model.onnx" if file == onnx_file else file.name))
        else:
            shutil.copyfile(plan, version / "model.plan")
            beside = plan.with_name(f"{plan.name}.json")
            if beside.is_file():
                shutil.copyfile(beside, version / "model.plan.json")
        (draft / "labels.txt").write_text("".join(f"{name}\n" for name in spec.class_names))
        (draft / "config.pbtxt").write_text(_config(graph.graph, spec, plan is not None, max_batch))
    return folder


def _config(graph: onnx.GraphProto, spec: ModelSpec, engine: bool, max_batch: int) -> str:
    """The text of config.pbtxt (model_config.proto of triton-inference-server/common)."""
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    fixed = batch.HasField("dim_value")  # then the batch is one more dimension, and the server does not batch
    lines = [
        f"name: {_quoted(spec.name)}",
        f'backend: "{"tensorrt" if engine else "onnxruntime"}"',
        f'default_model_filename: "model.{"plan" if engine else "onnx"}"',
        f"max_batch_size: {0 if fixed else max_batch}",
    ]
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            dims = [dim.dim_value or -1 for dim in tensor.shape.dim][0 if fixed else 1 :]
            lines.append(f'{kind} {{ name: "{value.name}" data_type: {TYPES[tensor.elem_type]} dims: {dims} }}')
    if not fixed:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}")
    if engine:
        lines.append("instance_group { kind: KIND_GPU count: 1 }")
    images = [*([batch.dim_value] if fixed else []), *spec.input_hw, 3]
    for size in sorted({1, 1 if fixed else max_batch}):  # first requests are slow, of each batch size
        lines.append(
            f'model_warmup {{ name: "batch {size}" batch_size: {size} inputs {{ key: "{graph.input[0].name}" '
            f"value {{ data_type: TYPE_UINT8 dims: {images} random_data: true }} }} }}"
        )
    for key, text in ((METADATA_KEY, spec.to_json()), ("labels", "labels.txt")):
        lines.append(f"parameters {{ key: {_quoted(key)} value {{ string_value: {_quoted(text)} }} }}")
    return "".join(f"{line}\n" for line in lines)


def _quoted(text: str) -> str:
    """A string of protobuf's text format; its escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)

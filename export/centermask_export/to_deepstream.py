# SPDX-License-Identifier: Apache-2.0
"""ONNX file -> a folder for DeepStream's nvinfer: graph, configuration, labels and the source of its mask parser.

nvinfer hands a network float32 planes [N, 3, H, W] and nothing else, so the graph gets such an input in front of its
own: pixels 0 to 255 in BGR order, not normalised. Everything behind it, normalisation too, is the graph as exported.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx

from centermask_export.onnx_file import files_of, read_graph
from centermask_export.output import whole_folder
from centermask_export.request import Request, Written
from centermask_runtime.errors import ExportError, UsageError
from centermask_runtime.spec import ModelSpec

SOURCES = Path(__file__).parent / "deepstream"
NETWORK_MODES = {"fp32": 0, "int8": 1, "fp16": 2}  # nvinfer's
CONFIG = "config_infer_centermask.txt"


def write(request: Request) -> Written:
    """Writes the folder of a request."""
    return Written(write_deepstream(request.source, request.spec, request.output), request.options.precision)


def write_deepstream(onnx_file: Path, spec: ModelSpec, output: Path) -> Path:
    """Writes the folder `output` and returns it. Raises UsageError, ModelError, ExportError."""
    if spec.graph_level != "peaks":
        raise UsageError(f"DeepStream needs a graph of level peaks, not {spec.graph_level}: the parser reads peaks.")
    if spec.precision not in NETWORK_MODES:
        raise UsageError(f"DeepStream has no precision {spec.precision}; choose {', '.join(NETWORK_MODES)}.")
    model = read_graph(onnx_file, weights=False)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
    _take_planes(model)
    with whole_folder(output, CONFIG) as draft:
        for weights in files_of(onnx_file)[1:]:
            shutil.copyfile(weights, draft / weights.name)
        onnx.save(model, draft / "model.onnx")
        (draft / "labels.txt").write_text("".join(f"{name}\n" for name in spec.class_names))
        (draft / CONFIG).write_text(_config(spec, batch))
        for source in sorted(SOURCES.iterdir()):
            shutil.copyfile(source, draft / source.name)
    return output


def _take_planes(model: onnx.ModelProto) -> None:
    """Replaces the input uint8 [N, H, W, 3] by float32 [N, 3, H, W] of the same name."""
    images = model.graph.input[0]
    tensor = images.type.tensor_type
    readers = [node for node in model.graph.node if images.name in node.input]
    kinds = {node.op_type for node in readers}  # a graph of any batch reads the shape of its images, too
    if tensor.elem_type != onnx.TensorProto.UINT8 or not {"Cast"} <= kinds <= {"Cast", "Shape"}:
        raise ExportError("The graph does not begin with a cast of uint8 images, so it is not ours; export it again.")
    pixels = f"{images.name}_hwc"
    for node in readers:
        node.input[0] = pixels  # a cast of float32 to float32 costs nothing
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", [images.name], [pixels], perm=[0, 2, 3, 1]))
    tensor.elem_type = onnx.TensorProto.FLOAT
    batch, height, width, channels = (onnx.TensorShapeProto.Dimension() for _ in range(4))
    for copy, dim in zip((batch, height, width, channels), tensor.shape.dim, strict=True):
        copy.CopyFrom(dim)
    del tensor.shape.dim[:]
    tensor.shape.dim.extend([batch, channels, height, width])


def _config(spec: ModelSpec, batch: int) -> str:
    """nvinfer's configuration; batch 0 is a dynamic one."""
    height, width = spec.input_hw
    mode = NETWORK_MODES[spec.precision]
    return f"""\
# SPDX-License-Identifier: Apache-2.0
# Gst-nvinfer: {spec.name}, input {width} x {height}. First `make` in this folder.
[property]
gie-unique-id=1
gpu-id=0
process-mode=1
onnx-file=model.onnx
model-engine-file=model.onnx_b{batch or 1}_gpu0_{spec.precision}.engine
labelfile-path=labels.txt
batch-size={batch or 1}
# 0 fp32, 1 int8, 2 fp16, as the graph is. 2 with an fp32 graph lets TensorRT round the heat map before its peaks are
# found, which makes false ties.
network-mode={mode}
network-type=3
num-detected-classes={spec.num_classes}
infer-dims=3;{height};{width}
network-input-order=0
# BGR, 0 to 255: normalisation is in the graph
model-color-format=1
net-scale-factor=1
# the frame is centred and keeps its aspect ratio; nvinfer fills the rest with black, training did with grey 114
maintain-aspect-ratio=1
symmetric-padding=1
scaling-filter=1
# no clustering: peaks of the heat map are the objects
cluster-mode=4
parse-bbox-instance-mask-func-name=NvDsInferParseCustomCenterMask
custom-lib-path=./libnvdsinfer_centermask.so
output-instance-mask=1
segmentation-threshold={spec.mask_threshold:g}

[class-attrs-all]
pre-cluster-threshold={spec.score_threshold:g}
"""

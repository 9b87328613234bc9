# SPDX-License-Identifier: Apache-2.0
"""The ONNX file: plain, with its specification inside, taken by every reader, equal to PyTorch at every size."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pycocotools import mask as coco_mask

from centermask.config import Config, InputConfig, ModelConfig
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import Split, find_split
from centermask.evaluation.evaluate import evaluate
from centermask.model.network import CenterMaskNet, build_model
from centermask.model.pretrained import load_starting_weights
from centermask.model.torch_network import TorchNetwork
from centermask_export.checks.outputs import (
    compare_networks,
    match_detections,
)
from centermask_export.options import ExportOptions
from centermask_export.to_onnx import export_onnx
from centermask_runtime.errors import ModelError
from centermask_runtime.networks.gpu_network import INPUT_NAME, OUTPUT_NAMES
from centermask_runtime.networks.network import HEADS_OUTPUTS, PEAKS_OUTPUTS
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.spec import METADATA_KEY, ModelSpec
from tests.support.exported_models import (
    NUCLEI,
    OPTIONS,
    frames,
    released,
    released_onnx,
    tiny_model,
    tiny_onnx,
    tiny_spec,
)
from tests.support.places import ROOT

KINDS = (*OPTIONS, "int8")
FLOAT, HALF, INT32, UINT8 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT32", "UINT8"))


@pytest.fixture(scope="module")
def model() -> CenterMaskNet:
    return tiny_model()


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return tiny_spec()


@pytest.fixture(scope="module")
def exported() -> Path:
    return tiny_onnx()


# ---- the file -------------------------------------------------------------------------------------------------------


def test_the_file_is_plain_onnx_of_opset_18(exported):
    graph = onnx.load(exported)
    onnx.checker.check_model(graph, full_check=True)
    assert {entry.domain: entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")} == {"": 18}
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}  # no plugin, no custom operator
    assert len(graph.functions) == 0
    assert [path.name for path in exported.parent.iterdir()] == ["tiny.onnx"]  # no external data, no temporary file


def shape_of(value: onnx.ValueInfoProto) -> tuple[str, int, list[int]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_value for dim in tensor.shape.dim]


def test_input_is_uint8_and_outputs_are_the_contract(exported):
    graph = onnx.load(exported).graph
    assert [shape_of(value) for value in graph.input] == [(INPUT_NAME, onnx.TensorProto.UINT8, [1, 96, 128, 3])]
    numbers, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    assert [shape_of(value) for value in graph.output] == [
        ("scores", numbers, [1, 50]),
        ("labels", whole, [1, 50]),
        ("boxes", numbers, [1, 50, 4]),
        ("shapes", numbers, [1, 50, 9, 9]),
        ("saliency", numbers, [1, 1, 24, 32]),
    ]
    assert tuple(value.name for value in graph.output) == PEAKS_OUTPUTS


def test_cast_comes_before_transpose_and_no_dense_shape_map_is_made(exported):
    """TensorRT refuses to permute uint8; sparse heads never make S x S channels of the whole map."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported)).graph
    takes_input = [node.op_type for node in graph.node if INPUT_NAME in node.input]
    assert takes_input == ["Cast"]
    shapes = {value.name: shape_of(value)[2] for value in graph.value_info}
    assert shapes and [name for name, shape in shapes.items() if shape == [1, 81, 24, 32]] == []


def test_the_specification_travels_inside(exported, spec):
    properties = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    found = ModelSpec.from_json(properties[METADATA_KEY], "file")
    assert dataclasses.replace(found, provenance={}) == dataclasses.replace(spec, provenance={}, precision="fp32")
    assert found.provenance["source"] == "tiny.safetensors" and "torch" in found.provenance["exported_with"]
    with OnnxRuntimeNetwork(exported, threads=1) as network:
        assert network.spec == found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_checker_and_shape_inference_accept_every_file(kind):
    graph = onnx.load(released_onnx(kind))
    onnx.checker.check_model(graph, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True)
    level = "heads" if "heads" in kind else "peaks"
    outputs = [(value.name, value.type.tensor_type.elem_type) for value in inferred.graph.output]
    wanted = [(name, INT32 if name == "labels" else FLOAT) for name in OUTPUT_NAMES[level]]
    assert outputs == wanted  # whatever is inside
    assert [value.type.tensor_type.elem_type for value in inferred.graph.input] == [UINT8]
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    first = [node.op_type for node in graph.graph.node if "images" in node.input]
    assert set(first) <= {"Cast", "Shape"} and "Cast" in first  # TensorRT does not permute uint8


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_openvino_reads_every_file(kind):
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(released_onnx(kind))
    assert [output.any_name for output in model.outputs] == list(OUTPUT_NAMES["heads" if "heads" in kind else "peaks"])


@pytest.mark.process
@pytest.mark.slow
def test_polygraphy_reads_the_file_with_the_most_in_it():
    pytest.importorskip("polygraphy")
    program = [sys.executable, "-c", "import sys, polygraphy.tools as tools; sys.exit(tools.main())"]
    if importlib.util.find_spec("onnx_graphsurgeon") is not None:  # which its lint needs
        lint = [*program, "check", "lint", str(released_onnx("dynamic"))]
        assert subprocess.run(lint, capture_output=True, text=True).returncode == 0
    command = [*program, "inspect", "model", str(released_onnx("dynamic"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "images [dtype=uint8" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_sides_of_a_dynamic_file_have_one_name():
    graph = onnx.load(released_onnx("dynamic")).graph
    sides = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.output]
    assert sides == [
        ["batch", 400], ["batch", 400], ["batch", 400, 4], ["batch", 400, 32, 32], ["batch", 1, "8*rows", "8*columns"]
    ]  # fmt: skip
    shape = graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", "32*rows", "32*columns", 3]


# ---- the numbers ----------------------------------------------------------------------------------------------------


def test_onnx_runtime_equals_pytorch_on_real_images(model, spec, exported):
    with OnnxRuntimeNetwork(exported, threads=2) as network:
        report = compare_networks(TorchNetwork(model, spec), network, frames())
    report.require(exported)
    assert report.ok and report.images == 5 and report.matched > 100
    assert all(output.largest > 0 for output in report.outputs), "compared with itself?"


def test_ap_of_the_file_is_ap_of_the_weights(model, spec, exported, tmp_path):
    """Ground truth is what PyTorch itself finds with a score above 0.6, so AP lies well above 0."""
    content = json.loads((NUCLEI / "annotations" / "instances_val.json").read_text())
    found = evaluate(TorchNetwork(model, spec), load_dataset(find_split(NUCLEI, "val")), score_threshold=0.6).results
    content["annotations"] = [
        {"id": n + 1, "iscrowd": 0, **one} for n, one in enumerate(found) if coco_mask.area(one["segmentation"]) > 0
    ]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    dataset = load_dataset(Split.of_files(tmp_path / "truth.json", NUCLEI / "val"))
    torch_ap = evaluate(TorchNetwork(model, spec), dataset).metrics
    with OnnxRuntimeNetwork(exported, threads=2) as network:
        onnx_ap = evaluate(network, dataset).metrics
    assert torch_ap["segm"]["AP"] > 0.5 and torch_ap["bbox"]["AP"] > 0.5
    for kind in ("bbox", "segm"):
        for name, value in torch_ap[kind].items():
            assert onnx_ap[kind][name] == pytest.approx(value, abs=1e-3, nan_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "up_path"),
    [
        ("efficientnet_lite0", {"up_channels": (24, 32, 48, 64), "up_conv": "separable"}),
        ("mobilenet_v2_fpn", {}),
    ],
)
def test_backbones_of_tensorflow_give_the_same_maps_in_onnx_runtime(backbone, up_path, tmp_path):
    """Their padding and the pyramid's up-sampling too; with published weights and a size that is no square."""
    config = ModelConfig(backbone, head_channels=96, shape_size=8, max_detections=50, **up_path)
    torch.manual_seed(0)
    model = build_model(Config("x", config, InputConfig((64, 96))), 1)
    (file,) = (ROOT / "centermask" / "starting").glob(f"*_{backbone}.safetensors")
    load_starting_weights(model, file)
    images = np.stack([cv2.resize(frame, (96, 64)) for frame in frames(2)])
    spec = dataclasses.replace(tiny_spec(), shape_size=8, input_hw=(64, 96))
    export_onnx(model, spec, tmp_path / "x.onnx", ExportOptions(graph="heads", batch=2))
    found = onnxruntime.InferenceSession(tmp_path / "x.onnx").run(HEADS_OUTPUTS, {INPUT_NAME: images})
    with torch.no_grad():
        for name, theirs, ours in zip(HEADS_OUTPUTS, found, model.heads(torch.from_numpy(images)), strict=True):
            assert np.abs(theirs - ours.numpy()).max() < 1e-4 * ours.abs().max(), name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_a_rounded_file_equals_pytorch_within_its_bound(kind):
    with OnnxRuntimeNetwork(released_onnx(kind), threads=1) as network:
        report = compare_networks(TorchNetwork(*released()), network, frames(3))
    report.require(released_onnx(kind))
    assert report.matched > 50
    shapes = next(output for output in report.outputs if output.name == "shapes")
    assert shapes.largest > 1e-4, "no rounding at all?"
    exact = [dataclasses.replace(output, tolerance=1e-4, of_mean=False) for output in report.outputs]
    assert not dataclasses.replace(report, outputs=tuple(exact), alone=0.0).ok  # the bound of fp32 would not do


@pytest.mark.slow
@pytest.mark.parametrize(("count", "size_hw"), [(1, (96, 96)), (3, (160, 192)), (2, (96, 192))])
def test_a_dynamic_file_equals_pytorch_at_every_size(count, size_hw):
    """One file for all of them: batch 1 too, which exporters like to take for a constant."""
    images = np.stack([cv2.resize(frame, size_hw[::-1]) for frame in frames(count)])
    expected = TorchNetwork(*released()).run(images)
    with OnnxRuntimeNetwork(released_onnx("dynamic"), threads=1) as network:
        found = network.run(images)
        with pytest.raises(ModelError, match=r"uint8 \[N, H, W, 3\]"):
            network.run(images[:, :-2])
    for index in range(count):
        pairs, alone = match_detections(expected, found, index)
        assert alone == 0 and len(pairs) > 20
    np.testing.assert_allclose(found.saliency, expected.saliency, atol=5e-3)

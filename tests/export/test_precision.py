# SPDX-License-Identifier: Apache-2.0
"""fp16, bf16, int8, dynamic shapes and graph level heads: each file is accepted by every reader, and equals PyTorch."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from centermask.model.torch_network import TorchNetwork
from centermask_export.batches import batches
from centermask_export.checks.dense_outputs import compare_heads
from centermask_export.checks.outputs import compare_networks, match_detections
from centermask_export.convert import openvino_network
from centermask_export.engines.to_tensorrt import write_tensorrt
from centermask_export.onnx_file import read_spec
from centermask_export.options import ExportOptions
from centermask_export.to_fp16 import fold_batch_norms, half_precision
from centermask_export.to_int8 import CalibrationBatches, calibration_count, calibration_images, kept_nodes
from centermask_runtime.errors import DataError, ModelError
from centermask_runtime.networks.gpu_network import OUTPUT_NAMES
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from tests.support.exported_models import DYNAMIC_SIZES, NUCLEI, OPTIONS, SMALL, frames, released, released_onnx

KINDS = (*OPTIONS, "int8")
FLOAT, HALF, INT32, UINT8 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT32", "UINT8"))
pytestmark = pytest.mark.usefixtures("two_threads")


# ---- every reader takes every file ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("kind", KINDS)
def test_openvino_reads_every_file(kind):
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(released_onnx(kind))
    assert [output.any_name for output in model.outputs] == list(OUTPUT_NAMES["heads" if "heads" in kind else "peaks"])


def test_polygraphy_reads_the_file_with_the_most_in_it():
    pytest.importorskip("polygraphy")
    program = [sys.executable, "-c", "import sys, polygraphy.tools as tools; sys.exit(tools.main())"]
    if importlib.util.find_spec("onnx_graphsurgeon") is not None:  # which its lint needs
        lint = [*program, "check", "lint", str(released_onnx("dynamic"))]
        assert subprocess.run(lint, capture_output=True, text=True).returncode == 0
    command = [*program, "inspect", "model", str(released_onnx("dynamic"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "images [dtype=uint8" in done.stdout, done.stdout + done.stderr


ENGINES = {
    "fp16": ("fp16", 0.9), "int8": ("int8", 0.7), "dynamic": ("fp32", 1.0), "heads_fp16": ("fp16", 1.0),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENGINES)
def test_tensorrt_rtx_builds_an_engine_of_what_the_file_says(kind, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    precision, share = ENGINES[kind]
    options = dataclasses.replace(OPTIONS.get(kind, ExportOptions()), format="trt-rtx")
    built = write_tensorrt(
        released_onnx(kind), read_spec(released_onnx(kind)), tmp_path / "a.engine", options
    ).description
    counts = Counter(built.layer_precisions)
    assert built.precision == precision == built.spec.precision and counts[precision] >= share * counts.total() > 50
    if kind == "dynamic":
        (low, high) = ((1, *DYNAMIC_SIZES[0], 3), (2, *DYNAMIC_SIZES[2], 3))
        assert built.profiles == ({"images": (low, (2, *DYNAMIC_SIZES[1], 3), high)},)
    if kind == "fp16":  # a fresh process each time: the same bytes
        write_tensorrt(released_onnx(kind), read_spec(released_onnx(kind)), tmp_path / "b.engine", options)
        assert (tmp_path / "a.engine").read_bytes() == (tmp_path / "b.engine").read_bytes()


# ---- the numbers ----------------------------------------------------------------------------------------------------


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


def test_bf16_equals_pytorch_within_its_bound(tmp_path):
    """ONNX Runtime has no kernels for it; OpenVINO runs the file."""
    pytest.importorskip("openvino")
    network = openvino_network(released_onnx("bf16"), read_spec(released_onnx("bf16")), tmp_path)
    assert network is not None
    with network:
        report = compare_networks(TorchNetwork(*released()), network, frames(3))
    report.require(released_onnx("bf16"))


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


def test_sides_of_a_dynamic_file_have_one_name():
    graph = onnx.load(released_onnx("dynamic")).graph
    sides = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.output]
    assert sides == [
        ["batch", 400], ["batch", 400], ["batch", 400, 4], ["batch", 400, 32, 32], ["batch", 1, "8*rows", "8*columns"]
    ]  # fmt: skip
    shape = graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", "32*rows", "32*columns", 3]


def test_dense_heads_equal_pytorch_and_hold_what_the_peaks_are_made_of():
    spec = read_spec(released_onnx("heads_fp16"))
    assert spec.graph_level == "heads" and spec.precision == "fp16"
    report = compare_heads(released()[0], released_onnx("heads_fp16"), spec, frames(2))
    report.require(released_onnx("heads_fp16"))
    assert [output.name for output in report.outputs] == list(OUTPUT_NAMES["heads"]) and report.images == 2
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *SMALL, 3), dtype=np.uint8))
    with torch.inference_mode():
        heads, peaks = released()[0].heads(images), released()[0].peaks(images)
    best = heads.heatmap.sigmoid().max()
    y, x = divmod(int(heads.heatmap.argmax()), 32)
    torch.testing.assert_close(peaks.scores[0, 0], best)
    torch.testing.assert_close(peaks.shapes[0, 0].flatten(), heads.shapes[0, :, y, x], atol=1e-4, rtol=0)
    centre = (torch.tensor([x, y]) + heads.offsets[0, :, y, x]) * 4
    torch.testing.assert_close(peaks.boxes[0, 0, :2] + peaks.boxes[0, 0, 2:], centre * 2, atol=1e-3, rtol=0)
    torch.testing.assert_close(peaks.saliency, heads.saliency)


# ---- how fp16 is made -----------------------------------------------------------------------------------------------


def test_folding_batch_norms_changes_no_number():
    folded = fold_batch_norms(released()[0])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in released()[0].modules()), "the model itself was changed"
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *SMALL, 3), dtype=np.uint8))
    with torch.inference_mode():
        torch.testing.assert_close(folded.features(images), released()[0].features(images), atol=1e-4, rtol=1e-4)


def test_a_norm_that_is_used_twice_or_not_behind_a_convolution_stays():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = torch.zeros(1)
            self.conv, self.twice, self.alone, self.last = (
                nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            )  # fmt: skip

        def features(self, images):
            x = self.twice(self.conv(images.float().permute(0, 3, 1, 2)))
            return self.last(torch.relu(self.alone(torch.relu(self.twice(x)))))

    kept = [name for name, module in fold_batch_norms(Odd()).named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert kept == ["twice", "alone", "last"]


def test_the_fp16_file_is_typed_with_its_islands_in_fp32():
    graph = onnx.shape_inference.infer_shapes(onnx.load(released_onnx("fp16"))).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            assert {types[name] for name in node.input} == {HALF}
        if node.op_type in ("Sigmoid", "TopK"):
            assert types[node.input[0]] == FLOAT
    named = {tensor.name.removeprefix("model."): tensor.data_type for tensor in graph.initializer}
    heads = {name: kind for name, kind in named.items() if name.startswith(("offset.", "size.", "shape."))}
    if heads:  # the exporter may have folded their reshaping
        assert all(kind == (HALF if name.startswith("shape.") else FLOAT) for name, kind in heads.items())
    assert released_onnx("fp16").stat().st_size < 0.6 * released_onnx("fp32").stat().st_size


def test_bf16_keeps_transposed_convolutions_in_fp32():
    half = half_precision(released()[0], "bf16")
    transposed = [module for module in half.modules() if isinstance(module, nn.ConvTranspose2d)]
    assert transposed and {module.weight.dtype for module in transposed} == {torch.float32}
    plain = {module.weight.dtype for module in half.base.modules() if isinstance(module, nn.Conv2d)}
    assert plain == {torch.bfloat16}


# ---- how int8 is made -----------------------------------------------------------------------------------------------


def test_int8_is_around_convolutions_only_and_not_before_the_sigmoids():
    graph = onnx.load(released_onnx("int8")).graph
    made_by = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept, quantised = [], 0
    for node in graph.node:
        source = made_by.get(node.input[0])
        if node.op_type == "Conv" and source is not None and source.op_type == "DequantizeLinear":
            quantised += 1
            scales = made_by[node.input[1]].input[1]
            channels = weights[made_by[node.input[1]].input[0]].dims[0]
            assert list(weights[scales].dims) == [channels], "weights have one scale a channel"
        elif node.op_type == "Conv":
            kept.append(node.name)
    assert sorted(kept) == sorted(kept_nodes(onnx.load(released_onnx("fp32")))) and len(kept) == 2
    assert quantised > 50
    for node in graph.node:
        if node.op_type == "QuantizeLinear":  # symmetric
            assert not onnx.numpy_helper.to_array(weights[node.input[2]]).any()
            assert weights[node.input[2]].data_type == onnx.TensorProto.INT8
        if node.op_type in ("Sigmoid", "TopK", "MatMul", "Gemm"):
            assert "DequantizeLinear" not in {made_by[name].op_type for name in node.input if name in made_by}
    assert read_spec(released_onnx("int8")).precision == "int8"


def test_calibration_images_are_spread_over_the_source_and_padded_to_the_batch():
    folder = NUCLEI / "val"
    count, used = calibration_count(folder, 0.5)
    assert count == 7 and used == 4
    seen = []
    chosen = list(calibration_images(folder, 0.5, lambda loop, count, title: seen.append(count) or loop))
    every = list(calibration_images(folder, None, lambda loop, count, title: loop))
    assert seen == [4] and len(every) == 7
    for image, index in zip(chosen, (0, 1, 3, 5), strict=True):
        np.testing.assert_array_equal(image, every[index])
    assert calibration_count(folder, 0.01) == (7, 1)  # at least one
    reader = CalibrationBatches(batches(chosen, (64, 96), 3), "images")
    read = [reader.get_next()["images"], reader.get_next()["images"]]
    assert [batch.shape for batch in read] == [(3, 64, 96, 3)] * 2 and reader.get_next() is None
    np.testing.assert_array_equal(read[1][0], read[1][2])


def test_a_folder_without_images_cannot_calibrate(tmp_path):
    with pytest.raises(DataError):
        calibration_count(tmp_path, None)

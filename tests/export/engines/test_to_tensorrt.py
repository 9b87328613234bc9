# SPDX-License-Identifier: Apache-2.0
"""Engines: TensorRT-RTX builds real ones here, without a GPU; TensorRT is tested where the export calls it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from centermask_export.engines.to_tensorrt import profile_of, write_tensorrt
from centermask_export.onnx_file import read_spec, write_onnx
from centermask_export.options import ExportOptions
from centermask_runtime.errors import ExportError, UsageError
from centermask_runtime.networks.engine_record import read_record
from centermask_runtime.spec import METADATA_KEY
from tests.support.exported_models import DYNAMIC_SIZES, OPTIONS, released_onnx


@pytest.fixture
def onnx_file(small_spec, tmp_path):
    """images uint8 [batch, rows, columns, 3] -> one convolution."""

    def write(batch="batch", sides=(64, 96), kind="Conv"):
        rng = np.random.default_rng(0)
        nodes = [
            helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node(kind, ["planes", "weights"], ["out"]),
        ]
        weights = numpy_helper.from_array(rng.normal(size=(8, 3, 3, 3)).astype(np.float32), "weights")
        images = helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, *sides, 3])
        out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 8, "out rows", "out columns"])
        graph = helper.make_graph(nodes, "one", [images], [out], [weights])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        helper.set_model_props(model, {METADATA_KEY: small_spec.to_json()})
        path = tmp_path / "one.onnx"
        if kind == "Conv":
            write_onnx(model, path)
        else:
            onnx.save(model, path)
        return path

    return write


RTX = ExportOptions(format="trt-rtx", dynamic=True, batch=4)


def test_a_real_engine_and_its_description_lie_side_by_side(small_spec, onnx_file, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    path, engine = onnx_file(), tmp_path / "out" / "one_rtx.engine"
    steps = []
    options = ExportOptions(format="trt-rtx", dynamic=True, batch=4, targets=("sm86", "sm89"), workspace=0.5)
    built = write_tensorrt(path, small_spec, engine, options, progress=lambda *step: steps.append(step))
    assert sorted(file.name for file in engine.parent.iterdir()) == ["one_rtx.engine", "one_rtx.engine.json"]
    described = json.loads((tmp_path / "out" / "one_rtx.engine.json").read_text())
    assert described["plan_sha256"] == hashlib.sha256(engine.read_bytes()).hexdigest()
    assert described["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert described["targets"] == ["sm86", "sm89"] and described["gpu"] == "sm86, sm89"
    shapes = {"min": [1, 64, 96, 3], "opt": [4, 64, 96, 3], "max": [4, 64, 96, 3]}
    assert described["profiles"] == [{"images": shapes}]
    assert built.description.layer_precisions == {"fp32": 1} and built.description.precisions_from == "network"
    assert steps[0][1] == 0 and steps[-1][1] == steps[-1][2] > 0  # from nothing to all
    record = read_record(engine)  # as the runtime does
    assert record.spec == small_spec and record.builder == "TensorRT-RTX" and record.precision == "fp32"


def test_a_graph_that_the_parser_refuses_leaves_nothing(small_spec, onnx_file, tmp_path):
    pytest.importorskip("tensorrt_rtx")
    engine = tmp_path / "one_rtx.engine"
    with pytest.raises(ExportError, match=r"tensorrt_rtx did not build .*NoSuchOperator.*; nothing was written\."):
        write_tensorrt(onnx_file(kind="NoSuchOperator"), small_spec, engine, RTX)
    assert [file.name for file in tmp_path.iterdir()] == ["one.onnx"]


def test_a_profile_covers_what_the_graph_leaves_open(onnx_file):
    fixed = ((2, 64, 96, 3),) * 3
    assert profile_of(onnx_file(batch=2), ExportOptions(format="trt-rtx", batch=2)) == {"images": fixed}
    open_sides = onnx_file(sides=("rows", "columns"))
    with pytest.raises(UsageError, match="dynamic_imgsz must say which"):
        profile_of(open_sides, RTX)
    options = ExportOptions(format="trt-rtx", batch=8, dynamic_imgsz=((64, 64), (96, 128), (512, 512)))
    assert profile_of(open_sides, options) == {"images": ((1, 64, 64, 3), (8, 96, 128, 3), (8, 512, 512, 3))}


ENGINES = {
    "fp16": ("fp16", 0.9), "int8": ("int8", 0.7), "dynamic": ("fp32", 1.0), "heads_fp16": ("fp16", 1.0),
}  # fmt: skip


@pytest.mark.slow
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

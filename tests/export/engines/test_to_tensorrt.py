# SPDX-License-Identifier: Apache-2.0
"""Engines: TensorRT-RTX builds real ones here, without a GPU; TensorRT is tested where the export calls it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from centermask_export.engines.build_engine import BuildError, PlanRequest, build, inspected_precisions
from centermask_export.engines.to_tensorrt import profile_of, write_tensorrt
from centermask_export.gpu import find_gpu
from centermask_export.onnx_file import write_onnx
from centermask_export.options import ExportOptions
from centermask_runtime.errors import ExportError, UsageError
from centermask_runtime.networks.engine_record import read_record
from centermask_runtime.spec import METADATA_KEY
from tests.support import fake_tensorrt


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
    options = ExportOptions(format="trt-rtx", dynamic=True, batch=4, targets=("sm86", "sm89"), workspace_gib=0.5)
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
    with pytest.raises(UsageError, match="--dynamic-imgsz MIN,OPT,MAX must say which"):
        profile_of(open_sides, RTX)
    options = ExportOptions(format="trt-rtx", batch=8, dynamic_imgsz=((64, 64), (96, 128), (512, 512)))
    assert profile_of(open_sides, options) == {"images": ((1, 64, 64, 3), (8, 96, 128, 3), (8, 512, 512, 3))}


# ---- the calls that TensorRT gets -----------------------------------------------------------------------------------


@pytest.fixture
def trt(monkeypatch):
    fake_tensorrt.calls.clear()
    for name, value in vars(fake_tensorrt.state).items():
        monkeypatch.setattr(fake_tensorrt.state, name, value)
    return fake_tensorrt


def request(tmp_path, **more):
    profile = {"images": ((1, 64, 64, 3), (4, 64, 64, 3), (8, 64, 64, 3))}
    return PlanRequest("tensorrt", "model.onnx", str(tmp_path / "plan"), (profile,), **more)


def test_tensorrt_gets_a_typed_network_and_every_option(trt, tmp_path):
    cache, steps = tmp_path / "cache", []
    cache.write_bytes(b"older times")
    asked = request(
        tmp_path, workspace_gib=2.0, timing_cache=str(cache), version_compatible=True, hardware_compatibility="ampere+"
    )
    plan, result = build(trt, asked, lambda *step: steps.append(step))
    assert trt.calls == [
        ("network", 2),  # 1 << STRONGLY_TYPED; TensorRT 11 takes and ignores it
        ("parse", "model.onnx"),
        ("workspace", trt.MemoryPoolType.WORKSPACE, 2 << 30),
        ("timing_cache", b"older times", False),
        ("flag", trt.BuilderFlag.VERSION_COMPATIBLE),
        ("profile", asked.profiles[0]),
        ("build", trt.ProfilingVerbosity.DETAILED, trt.HardwareCompatibilityLevel.AMPERE_PLUS),
        ("load", b"plan", True),  # a version-compatible engine carries code that must be allowed
    ]
    assert plan == b"plan" and cache.read_bytes() == b"timed" and result.version == "10.13.0"
    assert steps == [("Building engine", 0, 2), ("Building engine", 1, 2), ("Building engine", 2, 2)]
    assert result.warnings == ("no tactic was found",)


def test_precisions_come_from_the_inspector_and_else_from_the_typed_network(trt, tmp_path):
    _, result = build(trt, request(tmp_path), lambda *step: None)
    assert result.precisions_from == "network"
    assert result.layer_precisions == {"fp16": 1, "int8": 2, "bf16": 1} and result.precision == "int8"
    trt.state.inspected = {
        "Layers": [
            {"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
            {"LayerType": "gemm", "Inputs": [{"Format/Datatype": "Half"}]},
            {"LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Float"}]},
        ]
    }
    _, result = build(trt, request(tmp_path), lambda *step: None)
    assert result.precisions_from == "inspector"
    assert result.layer_precisions == {"fp16": 2} and result.precision == "fp16"


def test_the_inspector_of_tensorrt_11_and_a_silent_one_are_read():
    eleven = {
        "Layers": [
            {"LayerType": "fusion", "Inputs": [{"DataType": "Int8", "Format": "Row major linear INT8 format"}]},
            {"LayerType": "kgen", "TacticName": "pointwise", "Inputs": [{"DataType": "Float"}]},
            {"LayerType": "conv", "Inputs": [{"DataType": "BFloat16", "Format": "kLINEAR"}]},
        ]
    }
    assert inspected_precisions(json.dumps(eleven)) == {"int8": 1, "bf16": 1}
    assert inspected_precisions(json.dumps({"Layers": ["conv1", "conv2"]})) == {}  # names only


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        ({"parses": False}, {}, "its parser refuses the graph: Foo: no importer"),
        ({"builds": False}, {}, "no tactic was found"),
        ({"loads": False}, {}, "the engine it built cannot be loaded"),
        ({"cache_fits": False}, {"timing_cache": "cache"}, "is of another GPU or version"),
        ({}, {"hardware_compatibility": "same-compute-capability"}, "10.13.0 does"),
    ],
)
def test_a_refusal_of_tensorrt_is_told_in_its_words(trt, tmp_path, change, more, words):
    for name, value in change.items():
        setattr(trt.state, name, value)
    with pytest.raises(BuildError, match=words):
        build(trt, request(tmp_path, **more), lambda *step: None)


def test_a_gpu_that_is_not_there_is_none():
    assert find_gpu(99) is None  # no machine has that many


def test_a_gpu_that_is_there_has_a_name_and_an_architecture():
    gpu = find_gpu()
    if gpu is None:
        pytest.skip("needs a GPU")
    assert gpu.name and gpu.architecture.startswith("sm")

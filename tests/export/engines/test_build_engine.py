# SPDX-License-Identifier: Apache-2.0
"""The program that builds an engine: what TensorRT is asked for, and what it says of the result."""

from __future__ import annotations

import json

import pytest

from centermask_export.engines.build_engine import BuildError, PlanRequest, build, inspected_precisions
from tests.support import fake_tensorrt


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

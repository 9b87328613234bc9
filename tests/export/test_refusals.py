# SPDX-License-Identifier: Apache-2.0
"""Wishes that a format cannot meet: refused in one sentence that names who can, by what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from centermask_export.formats import FORMATS
from centermask_export.options import ExportOptions
from centermask_export.refusals import format_of, refuse_output, takers
from centermask_runtime.errors import UsageError


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"format": "openvine"}, r"The format openvine is not known; did you mean 'openvino'\?"),
        ({"opset": 20, "format": "torchscript"}, "torchscript has no operator set"),
        ({"opset": 18, "precision": "bf16"}, "no convolution in bf16; choose 22 or more"),
        ({"precision": "fp8"}, "The format onnx cannot have precision fp8; it takes fp32, fp16, int8, bf16"),
        ({"precision": "bf16", "format": "triton"}, "takes fp32, fp16, int8"),
        ({"precision": "fp16", "format": "torchscript"}, "takes fp32"),
        ({"graph": "heads", "format": "openvino"}, "which has peaks; leave it out, or choose onnx, trt, trt-rtx"),
        ({"dynamic": True, "format": "torchscript"}, "whose graph has one batch; .* or choose onnx, openvino, trt"),
        ({"dynamic": True, "format": "trt-rtx"}, "dynamic needs batch"),
        ({"dynamic": True, "format": "triton", "backend": "tensorrt"}, "dynamic needs batch"),
        ({"dynamic_imgsz": ((64, 64),) * 3, "format": "deepstream"}, "whose graph has one imgsz"),
        ({"targets": ("sm86",)}, r"targets is for the format trt-rtx, not onnx; leave it out\."),
        ({"targets": ("sm86",), "format": "trt"}, r"not trt \(TensorRT builds for the GPU of this machine\)"),
        ({"workspace": 2.0}, "workspace is for the format trt, trt-rtx, triton with backend tensorrt, not onnx"),
        ({"workspace": 2.0, "format": "triton"}, "not triton with backend onnxruntime"),
        ({"timing_cache": Path("c"), "format": "trt-rtx"}, r"not trt-rtx \(.* kernels to the user's GPU\)"),
        ({"version_compatible": True, "format": "trt-rtx"}, "version_compatible is for the format trt, triton with"),
        ({"hardware_compatibility": "ampere+"}, "hardware_compatibility is for the format trt"),
        ({"device": 1, "format": "openvino"}, "device is for the format trt"),
        ({"backend": "tensorrt"}, "backend is for the format triton, not onnx"),
        ({"backend": "tensorrd", "format": "triton"}, "no backend tensorrd; did you mean 'tensorrt'"),
    ],
)
def test_what_a_format_cannot_be_is_refused(wishes, words):
    with pytest.raises(UsageError, match=words) as caught:
        format_of(ExportOptions(**wishes))
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value) and "--" not in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_row_lists_is_taken(name):
    kind = FORMATS[name]
    for precision in kind.precisions:
        assert format_of(ExportOptions(name, precision)) is kind
    for graph in kind.graphs:
        assert format_of(ExportOptions(name, graph=graph)) is kind
    for backend in kind.backends:
        assert format_of(ExportOptions(name, backend=backend)) is kind
    wishes = {"batch": {"dynamic": True, "batch": 2}, "imgsz": {"dynamic_imgsz": ((64, 64),) * 3}}
    for axis in kind.dynamic:
        assert format_of(ExportOptions(name, **wishes[axis])) is kind


def test_an_option_of_a_library_is_taken_wherever_it_builds():
    assert takers("targets") == ["trt-rtx"] and takers("backend") == ["triton"]
    assert takers("device") == ["trt", "triton with backend tensorrt"]
    assert takers("imgsz") == []  # for all
    served = ExportOptions("triton", backend="tensorrt", workspace=1.0, device=1, version_compatible=True)
    assert format_of(served).name == "triton"


def test_a_name_that_the_artefact_cannot_have_is_refused_before_the_work(tmp_path):
    with pytest.raises(UsageError, match="it is a folder: choose another output"):
        refuse_output(FORMATS["trt"], tmp_path)
    with pytest.raises(UsageError, match=r"The format openvino is a \.xml file, which .*m\.onnx is not"):
        refuse_output(FORMATS["openvino"], tmp_path / "m.onnx")
    for name, output in (("triton", tmp_path), ("trt", tmp_path / "model.plan"), ("onnx", None)):
        refuse_output(FORMATS[name], output)

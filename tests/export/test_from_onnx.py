# SPDX-License-Identifier: Apache-2.0
"""From an exported ONNX file to what is made of it: the file says what it is, and nothing asks for something else."""

from __future__ import annotations

import pytest

from centermask_export.from_onnx import convert_onnx
from centermask_export.options import ExportOptions
from centermask_runtime.errors import ModelError, UsageError
from tests.support.exported_models import (
    RELEASED,
    released_onnx,
)

pytestmark = pytest.mark.slow


def test_an_onnx_file_becomes_an_engine_without_weights(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    options = ExportOptions(format="trt-rtx")
    written = convert_onnx(released_onnx("int8"), tmp_path, None, options)
    assert written.output == tmp_path / f"{RELEASED}_int8_rtx.engine" and written.precision == "int8"


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"precision": "fp16"}, "precision cannot change .* exported already"),
        ({"imgsz": (64, 64)}, "imgsz cannot change .* exported already"),
        ({"graph": "heads"}, "graph cannot change .* exported already"),
        ({"opset": 18}, "opset cannot change .* exported already"),
        ({"batch": 4}, "takes batches of 1 only"),
        ({"dynamic_imgsz": ((64, 64), (96, 96), (128, 128))}, "takes images of 128x128 only"),
    ],
)
def test_nothing_asks_for_another_graph_than_the_file_has(wishes, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        convert_onnx(released_onnx("int8"), tmp_path, None, ExportOptions(format="trt-rtx", **wishes))
    assert list(tmp_path.iterdir()) == []


def test_openvino_rounds_an_fp32_file_itself_and_no_other(tmp_path):
    pytest.importorskip("openvino")
    written = convert_onnx(released_onnx("fp32"), tmp_path, None, ExportOptions(format="openvino", precision="fp16"))
    assert written.output == tmp_path / f"{RELEASED}_fp16.xml" and written.precision == "fp16"
    with pytest.raises(UsageError, match="precision cannot change"):
        convert_onnx(released_onnx("fp16"), tmp_path, None, ExportOptions(format="openvino", precision="bf16"))


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_what_is_made_of_weights_is_not_made_of_an_onnx_file(name, tmp_path):
    with pytest.raises(ModelError, match=r"is exported already; the format .* is made of \.safetensors weights"):
        convert_onnx(released_onnx("fp32"), tmp_path, None, ExportOptions(format=name))

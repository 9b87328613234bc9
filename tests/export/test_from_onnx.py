# SPDX-License-Identifier: Apache-2.0
"""From an exported ONNX file to what is made of it: the file says what it is, and nothing asks for something else."""

from __future__ import annotations

import dataclasses

import onnx
import onnx.numpy_helper
import pytest

from centermask_export.checks import CheckError
from centermask_export.formats import FORMATS, OPENVINO
from centermask_export.from_onnx import convert_onnx
from centermask_export.options import ExportOptions
from centermask_export.request import Request, Written
from centermask_runtime.errors import ModelError, UsageError
from tests.support.exported_models import (
    RELEASED,
    released_onnx,
)

pytestmark = pytest.mark.slow


def test_an_onnx_file_becomes_an_engine_without_weights(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    options = ExportOptions(format="trt-rtx")
    written = convert_onnx(released_onnx("int8"), tmp_path, None, options).written
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
    rounded = ExportOptions(format="openvino", precision="fp16")
    written = convert_onnx(released_onnx("fp32"), tmp_path, None, rounded).written
    assert written.output == tmp_path / f"{RELEASED}_fp16.xml" and written.precision == "fp16"
    with pytest.raises(UsageError, match="precision cannot change"):
        convert_onnx(released_onnx("fp16"), tmp_path, None, ExportOptions(format="openvino", precision="bf16"))


@pytest.mark.parametrize("name", ["onnx", "torchscript"])
def test_what_is_made_of_weights_is_not_made_of_an_onnx_file(name, tmp_path):
    with pytest.raises(ModelError, match=r"is exported already; the format .* is made of \.safetensors weights"):
        convert_onnx(released_onnx("fp32"), tmp_path, None, ExportOptions(format=name))


def test_what_runs_here_is_compared_with_the_onnx_file_that_it_was_made_of(tmp_path):
    pytest.importorskip("openvino")
    report = convert_onnx(released_onnx("fp32"), tmp_path, None, ExportOptions(format="openvino", precision="fp16"))
    assert report.outputs.ok and report.outputs.matched > 0 and report.artefact_ran
    assert report.outputs.artefact.startswith("OpenVINO")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", ".xml"]


def test_an_artefact_that_differs_from_its_onnx_file_gets_no_name_and_leaves_the_older_one(tmp_path, monkeypatch):
    pytest.importorskip("openvino")

    def with_other_weights(request: Request) -> Written:
        """Writes a sound model of the same graph, whose largest weights are a tenth off."""
        graph = onnx.load(request.source)
        largest = max(graph.graph.initializer, key=lambda weights: len(weights.raw_data))
        weights = onnx.numpy_helper.to_array(largest)
        largest.CopyFrom(onnx.numpy_helper.from_array(weights * weights.dtype.type(1.1), largest.name))
        onnx.save(graph, tmp_path / "other.onnx")
        return OPENVINO.write(dataclasses.replace(request, source=tmp_path / "other.onnx"))

    monkeypatch.setitem(FORMATS, "openvino", dataclasses.replace(OPENVINO, write=with_other_weights))
    older = tmp_path / "made" / "model.xml"
    older.parent.mkdir()
    older.write_text("older")
    with pytest.raises(CheckError, match="does not give what its source gives"):
        convert_onnx(released_onnx("fp32"), tmp_path, older, ExportOptions(format="openvino"))
    assert [path.read_text() for path in older.parent.iterdir()] == ["older"]

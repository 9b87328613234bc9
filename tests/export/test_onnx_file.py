# SPDX-License-Identifier: Apache-2.0
"""ONNX files: large ones with their weights beside them, and none that reads what it should not."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from centermask_export.onnx_file import files_of, read_graph, read_spec, write_onnx
from centermask_export.output import data_file
from centermask_runtime.errors import ExportError, ModelError
from centermask_runtime.spec import METADATA_KEY

WEIGHTS = np.arange(1000, dtype=np.float32)


@pytest.fixture
def graph(small_spec) -> onnx.ModelProto:
    """x [1000] -> x + weights."""
    sides = [1000]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "weights"], ["y"])], "add",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, sides)],
            [numpy_helper.from_array(WEIGHTS, "weights")],
        ),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    helper.set_model_props(model, {METADATA_KEY: small_spec.to_json()})
    return model


def result(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.ones(1000, np.float32)})[0]


def test_a_small_model_is_one_file(graph, tmp_path):
    write_onnx(graph, tmp_path / "m.onnx")
    assert files_of(tmp_path / "m.onnx") == (tmp_path / "m.onnx",) == tuple(tmp_path.iterdir())


def test_a_large_model_keeps_its_weights_beside_it(graph, small_spec, tmp_path):
    path = tmp_path / "m.onnx"
    write_onnx(graph, path, external_from=4000)  # as with 2 GiB
    assert sorted(tmp_path.iterdir()) == [path, data_file(path)] == sorted(files_of(path))
    assert path.stat().st_size < 4000 <= data_file(path).stat().st_size
    np.testing.assert_array_equal(result(path), WEIGHTS + 1)
    onnx.checker.check_model(str(path), full_check=True)
    assert read_spec(path) == small_spec
    loaded = numpy_helper.to_array(read_graph(path).graph.initializer[0])
    np.testing.assert_array_equal(loaded, WEIGHTS)


def test_a_small_model_in_place_of_a_large_one_leaves_no_weights(graph, tmp_path):
    path, copy = tmp_path / "m.onnx", onnx.ModelProto.FromString(graph.SerializeToString())
    write_onnx(graph, path, external_from=4000)
    write_onnx(copy, path)
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(result(path), WEIGHTS + 1)


def test_a_large_model_that_fails_the_check_leaves_nothing(graph, tmp_path):
    graph.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ExportError, match="NoSuchOperator"):
        write_onnx(graph, tmp_path / "m.onnx", external_from=4000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "location", ["../m.onnx.data", "/etc/passwd", "..\\m.onnx.data", "C:\\secret", "a/../../m.onnx.data", "..", ""]
)
def test_weights_elsewhere_are_refused(graph, tmp_path, location):
    path = tmp_path / "m.onnx"
    write_onnx(graph, path, external_from=4000)
    (tmp_path / "sub").mkdir()
    bad = onnx.load(path, load_external_data=False)
    next(entry for entry in bad.graph.initializer[0].external_data if entry.key == "location").value = location
    (tmp_path / "sub" / "bad.onnx").write_bytes(bad.SerializeToString())
    for read in (read_graph, read_spec):
        with pytest.raises(ModelError, match="not a plain file beside it"):
            read(tmp_path / "sub" / "bad.onnx")


def test_weights_in_a_constant_or_behind_a_link_are_refused_too(graph, tmp_path):
    path = tmp_path / "m.onnx"
    write_onnx(graph, path, external_from=4000)
    tensor = onnx.TensorProto()
    tensor.CopyFrom(onnx.load(path, load_external_data=False).graph.initializer[0])
    next(entry for entry in tensor.external_data if entry.key == "location").value = "../m.onnx.data"
    hidden = onnx.load(path, load_external_data=False)
    hidden.graph.node.append(helper.make_node("Constant", [], ["hidden"], value=tensor))
    (tmp_path / "hidden.onnx").write_bytes(hidden.SerializeToString())
    with pytest.raises(ModelError, match="not a plain file"):
        read_spec(tmp_path / "hidden.onnx")
    data_file(path).rename(tmp_path / "real")
    os.symlink(tmp_path / "real", data_file(path))
    with pytest.raises(ModelError, match="not a plain file"):
        read_spec(path)


def test_missing_weights_are_named(graph, tmp_path):
    path = tmp_path / "m.onnx"
    write_onnx(graph, path, external_from=4000)
    data_file(path).unlink()
    with pytest.raises(ModelError, match=r"weights in 'm\.onnx\.data', which is not beside it"):
        read_spec(path)


def test_what_is_not_ours_is_refused_with_the_reason(graph, tmp_path):
    path = tmp_path / "m.onnx"
    del graph.metadata_props[:]
    graph.producer_name, graph.producer_version = "pytorch", "2.9"
    write_onnx(graph, path)
    with pytest.raises(ModelError, match=r"no CenterMask specification \(made by pytorch 2\.9\)"):
        read_spec(path)
    path.write_bytes(b"notes, not a graph")
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        read_spec(path)
    with pytest.raises(ModelError, match="There is no model file"):
        read_spec(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (onnx.checker.ValidationError("a node is wrong\nContext: ..."), "a node is wrong"),
        (onnx.shape_inference.InferenceError("shapes disagree"), "shapes disagree"),
        (onnx.checker.ValidationError(""), "ValidationError"),
    ],
)
def test_a_failed_export_leaves_the_old_file_and_nothing_half_written(graph, tmp_path, monkeypatch, error, reason):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"the old one")

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(ExportError, match=rf"failed \({reason}\); nothing was written\."):
        write_onnx(graph, path)
    assert path.read_bytes() == b"the old one" and list(tmp_path.iterdir()) == [path]

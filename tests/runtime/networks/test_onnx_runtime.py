# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as a Network: real sessions on small graphs made here; every wrong file is one sentence."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from centermask_runtime.errors import ModelError
from centermask_runtime.networks.network import PEAKS_OUTPUTS
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.spec import METADATA_KEY


def tiny_graph(spec, outputs, batch="N", input_type=TensorProto.UINT8, input_hw=None, names=PEAKS_OUTPUTS):
    """Scores are `outputs.scores[0]` times the mean of the image / 255; all else is constant."""
    nodes, constants, values = [], [], []

    def node(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))

    node("Cast", ["images"], "pixels", to=TensorProto.FLOAT)
    node("ReduceMean", ["pixels"], "mean", axes=[1, 2, 3], keepdims=1)
    node("Mul", ["mean", "1/255"], "brightness")
    node("Mul", ["mean", "0"], "nothing")
    constants += [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("1/255", 1 / 255), ("0", 0.0))]
    for name in PEAKS_OUTPUTS:
        constant = getattr(outputs, name)[:1]
        constants.append(numpy_helper.from_array(constant.astype(np.float32), f"{name} constant"))
        constants.append(numpy_helper.from_array(np.array([-1] + [1] * (constant.ndim - 1)), f"{name} shape"))
        node("Reshape", ["brightness" if name == "scores" else "nothing", f"{name} shape"], f"{name} factor")
        node("Mul" if name == "scores" else "Add", [f"{name} factor", f"{name} constant"], f"{name} float")
        kind = TensorProto.INT32 if name == "labels" else TensorProto.FLOAT
        node("Cast", [f"{name} float"], name, to=kind)
        if name in names:
            values.append(helper.make_tensor_value_info(name, kind, [batch, *constant.shape[1:]]))
    images = helper.make_tensor_value_info("images", input_type, [batch, *(input_hw or spec.input_hw), 3])
    graph = helper.make_graph(nodes, "tiny", [images], values, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    return model


@pytest.fixture
def write(tmp_path):
    def write(model):
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        return path

    return write


def test_the_spec_travels_in_the_file(small_spec, small_outputs, write):
    with OnnxRuntimeNetwork(write(tiny_graph(small_spec, small_outputs)), threads=1) as network:
        assert network.spec == small_spec
        assert "CPU, 1 thread" in network.description and onnxruntime.__version__ in network.description


@pytest.mark.parametrize("n", [1, 3])
def test_a_dynamic_batch_takes_any_number_of_images(small_spec, small_outputs, write, n):
    images = np.full((n, *small_spec.input_hw, 3), 255, np.uint8)
    images[-1] = 51
    with OnnxRuntimeNetwork(write(tiny_graph(small_spec, small_outputs)), threads=1) as network:
        found = network.run(images)
    np.testing.assert_allclose(found.scores[-1], small_outputs.scores[0] / 5, rtol=1e-5)
    np.testing.assert_array_equal(found.labels, np.repeat(small_outputs.labels[:1], n, 0))
    np.testing.assert_array_equal(found.boxes, np.repeat(small_outputs.boxes[:1], n, 0))
    np.testing.assert_array_equal(found.shapes, np.repeat(small_outputs.shapes[:1], n, 0))
    np.testing.assert_array_equal(found.saliency, np.repeat(small_outputs.saliency[:1], n, 0))
    assert found.labels.dtype == np.int32


def test_a_view_that_is_not_contiguous_is_the_same_image(small_spec, small_outputs, write):
    images = np.random.default_rng(0).integers(0, 256, (1, *small_spec.input_hw, 3), dtype=np.uint8)
    with OnnxRuntimeNetwork(write(tiny_graph(small_spec, small_outputs)), threads=1) as network:
        np.testing.assert_array_equal(network.run(images[:, ::-1]).scores, network.run(images[:, ::-1].copy()).scores)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 64, 64, 3), np.uint8), ((1, 3, 64, 96), np.uint8), ((64, 96, 3), np.uint8), ((1, 64, 96, 3), np.float32)],
)
def test_wrong_images_say_what_was_expected(small_spec, small_outputs, write, shape, dtype):
    network = OnnxRuntimeNetwork(write(tiny_graph(small_spec, small_outputs)), threads=1)
    with pytest.raises(ModelError, match=r"uint8 \[N, 64, 96, 3\], not .* \["):
        network.run(np.zeros(shape, dtype))


def test_a_fixed_batch_refuses_another_number_of_images(small_spec, small_outputs, write):
    network = OnnxRuntimeNetwork(write(tiny_graph(small_spec, small_outputs, batch=1)), threads=1)
    assert network.run(np.zeros((1, 64, 96, 3), np.uint8)).scores.shape == (1, 8)
    with pytest.raises(ModelError, match=r"uint8 \[1, 64, 96, 3\], not uint8 \[2, 64, 96, 3\]"):
        network.run(np.zeros((2, 64, 96, 3), np.uint8))


def test_a_frame_goes_through_the_pipeline(small_spec, small_outputs, write):
    with Pipeline(OnnxRuntimeNetwork(write(tiny_graph(small_spec, small_outputs)), threads=1)) as pipeline:
        found = pipeline(np.full((128, 192, 3), 255, np.uint8))
    expected = small_outputs.scores[0][small_outputs.scores[0] >= small_spec.score_threshold]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-5)
    np.testing.assert_allclose(
        found.boxes, np.clip(small_outputs.boxes[0, : len(found)] * 2, 0, [192, 128] * 2), rtol=1e-5
    )


def test_a_file_without_specification_is_refused(small_spec, small_outputs, write):
    model = tiny_graph(small_spec, small_outputs)
    del model.metadata_props[:]
    with pytest.raises(ModelError, match="no CenterMask specification"):
        OnnxRuntimeNetwork(write(model))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": PEAKS_OUTPUTS[:4]}, "must have the outputs scores .* but it has"),
        ({"input_hw": (32, 96)}, r"must take images uint8 \[N, 64, 96, 3\]"),
        ({"input_type": TensorProto.FLOAT}, r"must take images uint8 \[N, 64, 96, 3\]"),
    ],
)
def test_a_graph_that_does_not_match_its_specification_is_refused(small_spec, small_outputs, write, change, words):
    with pytest.raises(ModelError, match=words):
        OnnxRuntimeNetwork(write(tiny_graph(small_spec, small_outputs, **change)))


def test_a_graph_of_level_heads_is_refused(small_spec, small_outputs, write):
    spec = dataclasses.replace(small_spec, graph_level="heads")
    with pytest.raises(ModelError, match="level 'heads'"):
        OnnxRuntimeNetwork(write(tiny_graph(spec, small_outputs)))


def test_a_file_that_is_cut_off_is_refused(small_spec, small_outputs, write):
    path = write(tiny_graph(small_spec, small_outputs))
    content = path.read_bytes()
    for part in (0, 10, len(content) // 2, len(content) - 5):
        path.write_bytes(content[:part])
        with pytest.raises(ModelError, match=r"model\.onnx"):
            OnnxRuntimeNetwork(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "notes.onnx"
    path.write_text("these are notes")
    with pytest.raises(ModelError, match=r"notes\.onnx is not an ONNX model"):
        OnnxRuntimeNetwork(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        OnnxRuntimeNetwork(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        OnnxRuntimeNetwork(tmp_path)


def test_a_provider_that_is_not_there_is_never_replaced_silently(small_spec, small_outputs, write):
    path = write(tiny_graph(small_spec, small_outputs))
    with pytest.raises(ModelError, match="NoSuchExecutionProvider was asked for"):
        OnnxRuntimeNetwork(path, providers=["NoSuchExecutionProvider"])


def test_a_provider_that_cannot_start_is_never_replaced_silently(small_spec, small_outputs, write):
    """onnxruntime-gpu lists CUDA on every machine, and without a GPU its session quietly runs on the CPU."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs the onnxruntime-gpu package")
    path = write(tiny_graph(small_spec, small_outputs))
    try:
        network = OnnxRuntimeNetwork(path, providers=["CUDAExecutionProvider"])
    except ModelError as error:
        assert "could not start" in str(error)
    else:
        assert "CUDA" in network.description

# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: what PyTorch gives, within float32 rounding, on real images; every wrong pair of files is one sentence."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.support.places import NUCLEI

ov = pytest.importorskip("openvino", reason="needs openvino: pip install -e '.[openvino]'")

from centermask.cli import main  # noqa: E402
from centermask.data.dataset import load_dataset  # noqa: E402
from centermask.data.formats.layouts import find_split  # noqa: E402
from centermask.model.torch_network import TorchNetwork  # noqa: E402
from centermask.model.weights import load_weights  # noqa: E402
from centermask.opening import find_model, open_network  # noqa: E402
from centermask_export.checks.ap import compare_ap  # noqa: E402
from centermask_export.checks.outputs import compare_networks  # noqa: E402
from centermask_export.to_openvino import write_openvino  # noqa: E402
from centermask_runtime import CenterMask  # noqa: E402
from centermask_runtime.errors import ExportError, ModelError, UsageError  # noqa: E402
from centermask_runtime.networks.openvino_runtime import OpenVinoNetwork  # noqa: E402
from tests.runtime.networks.test_onnx_runtime import tiny_graph  # noqa: E402
from tests.runtime.test_model import in_child  # noqa: E402
from tests.support import exported_models  # noqa: E402

NAME = exported_models.RELEASED


@pytest.fixture(scope="module")
def weights() -> TorchNetwork:
    model, spec, _ = load_weights(find_model(NAME))
    return TorchNetwork(model, spec)


@pytest.fixture(scope="module")
def released(weights, tmp_path_factory) -> Path:
    """The released model as IR in fp32/ and fp16/."""
    folder = tmp_path_factory.mktemp("released")
    exported = exported_models.released_onnx("own_size")
    for precision in ("fp32", "fp16"):
        write_openvino(exported, weights.spec, folder / precision / f"{NAME}.xml", precision=precision)
    return folder


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(find_split(NUCLEI, "val"))


def differences(weights, path, dataset, count=2):
    with OpenVinoNetwork(path, threads=1) as network:
        report = compare_networks(weights, network, [dataset.image(index) for index in range(count)])
    return report, {output.name: output.largest for output in report.outputs}


@pytest.mark.slow
def test_outputs_are_those_of_pytorch_on_real_images(weights, released, dataset):
    report, largest = differences(weights, released / "fp32" / f"{NAME}.xml", dataset)
    assert (report.matched, report.unmatched) == (800, 0)  # K = 400, on two images
    # measured on three images: 1.5e-6, 2.6e-3, 4.7e-3, 1.3e-3; sums in another order, with room for another processor
    assert largest["scores"] < 1e-4 and largest["boxes"] < 0.03
    assert largest["shapes"] < 0.05 and largest["saliency"] < 0.02
    assert all(output.mean < 1e-3 for output in report.outputs)


@pytest.mark.slow
def test_half_weights_are_half_the_file_and_round_no_more_than_halves(weights, released, dataset):
    whole, half = ((released / name / f"{NAME}.bin").stat().st_size for name in ("fp32", "fp16"))
    assert 0.48 < half / whole < 0.52
    report, largest = differences(weights, released / "fp16" / f"{NAME}.xml", dataset)
    # measured: 3e-4, 0.04, 0.035; a weight rounded to 11 bits moves logits of +-10 by some 1e-2
    assert 0 < largest["scores"] < 3e-3 and largest["boxes"] < 0.3 and largest["shapes"] < 0.3
    assert report.matched > 750


@pytest.mark.slow
def test_ap_is_that_of_pytorch(weights, released, dataset):
    few = dataclasses.replace(dataset, images=dataset.images[:4])
    with OpenVinoNetwork(released / "fp32" / f"{NAME}.xml", threads=1) as network:
        report = compare_ap(weights, network, few, max_ap_drop=0.002)
    assert report.ok and report.images == 4
    assert max(map(abs, report.drops.values())) <= 0.002
    assert report.actual["segm"]["AP"] > 0.1  # the other three images count as missed


# ---- the files, with a graph made by hand ---------------------------------------------------------------------------


@pytest.fixture
def write(small_spec, small_outputs, tmp_path):
    """Writes tiny_graph of these arguments as IR."""

    def write(name="small", spec=small_spec, precision="fp32", change=None, **arguments) -> Path:
        graph = tiny_graph(small_spec, small_outputs, **arguments)
        if change is not None:
            change(graph)
        onnx.save(graph, tmp_path / f"{name}.onnx")
        return write_openvino(tmp_path / f"{name}.onnx", spec, tmp_path / "ir" / f"{name}.xml", precision=precision)

    return write


def quantise(graph: onnx.ModelProto) -> None:
    """QuantizeLinear and DequantizeLinear behind the first cast, as static quantisation leaves them; exact here."""
    for node in graph.graph.node:
        node.input[:] = ["dequantised" if name == "pixels" else name for name in node.input]
    for name, value in (("scale", np.array(1, np.float32)), ("zero", np.array(0, np.uint8))):
        graph.graph.initializer.append(numpy_helper.from_array(value, name))
    graph.graph.node.insert(1, helper.make_node("QuantizeLinear", ["pixels", "scale", "zero"], ["quantised"]))
    graph.graph.node.insert(2, helper.make_node("DequantizeLinear", ["quantised", "scale", "zero"], ["dequantised"]))


def test_the_spec_travels_in_the_file_with_its_precision(write, small_spec):
    for precision in ("fp32", "fp16", "bf16"):
        with OpenVinoNetwork(write(precision, precision=precision), threads=1) as network:
            assert network.spec == dataclasses.replace(small_spec, precision=precision)
            assert network.description.startswith("OpenVINO 20") and "1 thread" in network.description


def test_arithmetic_is_float32_unless_the_model_asks_for_bf16(write):
    """On processors with bf16 units OpenVINO's own choice is bf16."""
    with OpenVinoNetwork(write("a")) as network:
        assert " in f32" in network.description
    with OpenVinoNetwork(write("b", precision="bf16")) as network:
        able = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        assert (" in bf16" in network.description) == able


def test_threads_are_what_was_asked(write):
    with OpenVinoNetwork(write(), threads=1) as network:
        assert network._compiled.get_property("INFERENCE_NUM_THREADS") == 1


@pytest.mark.parametrize("n", [1, 3])
def test_a_dynamic_batch_takes_any_number_of_images(write, small_spec, small_outputs, n):
    images = np.full((n, *small_spec.input_hw, 3), 255, np.uint8)
    images[-1] = 51
    with OpenVinoNetwork(write(), threads=1) as network:
        found = network.run(images)
        np.testing.assert_allclose(found.scores[-1], small_outputs.scores[0] / 5, rtol=1e-5)
        np.testing.assert_array_equal(found.labels, np.repeat(small_outputs.labels[:1], n, 0))
        np.testing.assert_array_equal(found.boxes, np.repeat(small_outputs.boxes[:1], n, 0))
        np.testing.assert_array_equal(found.saliency, np.repeat(small_outputs.saliency[:1], n, 0))
        assert found.labels.dtype == np.int32


def test_a_quantised_graph_is_int8_and_no_other_is(write, small_spec, small_outputs):
    with OpenVinoNetwork(write("q", precision="int8", change=quantise), threads=1) as network:
        found = network.run(np.full((1, *small_spec.input_hw, 3), 255, np.uint8))
        np.testing.assert_allclose(found.scores, small_outputs.scores[:1], rtol=1e-5)
    with pytest.raises(ExportError, match="is not quantised, so it makes no OpenVINO model of int8"):
        write("a", precision="int8")
    with pytest.raises(ExportError, match="is quantised, so it makes no OpenVINO model of fp16"):
        write("b", precision="fp16", change=quantise)


def test_exporting_again_gives_the_same_weights_and_leaves_nothing_else(write):
    path = write()
    first = path.with_suffix(".bin").read_bytes()
    assert write().with_suffix(".bin").read_bytes() == first
    assert sorted(file.name for file in path.parent.iterdir()) == ["small.bin", "small.xml"]


def test_a_file_that_is_no_onnx_leaves_the_older_model(write, tmp_path, small_spec):
    path = write()
    before = path.read_bytes()
    (tmp_path / "small.onnx").write_text("notes")
    with pytest.raises(ExportError, match=r"cannot read .*small\.onnx .* nothing was written"):
        write_openvino(tmp_path / "small.onnx", small_spec, path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "int4"}, "no precision 'int4'"),
        ({"output": "model.onnx"}, r"model is an \.xml file .*model\.onnx is not\.$"),
        ({"graph_level": "heads"}, "needs a graph of level peaks"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(small_spec, tmp_path, change, words):
    spec = dataclasses.replace(small_spec, graph_level=change.get("graph_level", "peaks"))
    output = tmp_path / change.get("output", "model.xml")
    with pytest.raises(UsageError, match=words):
        write_openvino(tmp_path / "none.onnx", spec, output, precision=change.get("precision", "fp32"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 64, 64, 3), np.uint8), ((64, 96, 3), np.uint8), ((1, 64, 96, 3), np.float32)]
)
def test_wrong_images_say_what_was_expected(write, shape, dtype):
    with OpenVinoNetwork(write()) as network, pytest.raises(ModelError, match=r"\[\?,64,96,3\], not .* \["):
        network.run(np.zeros(shape, dtype))


def test_weights_of_another_model_are_refused(write):
    """OpenVINO itself loads them: the sizes fit."""
    path = write("a")
    other = write("b", change=lambda graph: graph.graph.initializer[2].CopyFrom(_one_more(graph.graph.initializer[2])))
    shutil.copy(other.with_suffix(".bin"), path.with_suffix(".bin"))
    ov.Core().read_model(path)
    with pytest.raises(ModelError, match=r"a\.bin does not belong to a\.xml"):
        OpenVinoNetwork(path)


def _one_more(tensor: onnx.TensorProto) -> onnx.TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name)


def test_damaged_and_missing_files_are_refused(write, tmp_path):
    path = write()
    content = path.read_bytes()
    for part in (0, 10, len(content) // 2):
        path.write_bytes(content[:part])
        with pytest.raises(ModelError, match=r"small\.xml is not a model that OpenVINO .* can load"):
            OpenVinoNetwork(path)
    path.write_bytes(content)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"there is no file .*small\.bin"):
        OpenVinoNetwork(path)
    with pytest.raises(ModelError, match=r"there is no file .*none\.xml"):
        OpenVinoNetwork(tmp_path / "none.xml")


def test_an_ir_of_somebody_else_and_a_device_that_is_not_there_are_refused(write, tmp_path):
    write()
    ov.save_model(ov.Core().read_model(tmp_path / "small.onnx"), tmp_path / "other.xml")
    with pytest.raises(ModelError, match="no CenterMask specification"):
        OpenVinoNetwork(tmp_path / "other.xml")
    with pytest.raises(ModelError, match=r"device NPU9 was asked for, but this machine offers .*CPU"):
        OpenVinoNetwork(write(), device="NPU9")


def test_a_graph_that_does_not_match_its_specification_is_refused(write, small_spec):
    wrong = dataclasses.replace(small_spec, input_hw=(96, 64))
    with pytest.raises(ModelError, match=r"must take images uint8 \[N, 96, 64, 3\] .* but it takes u8 \[\?,64,96,3\]"):
        OpenVinoNetwork(write(spec=wrong))


# ---- the commands ---------------------------------------------------------------------------------------------------


def test_predict_takes_the_file_and_its_folder(write, tmp_path, capsys):
    path = write()
    cv2.imwrite(str(tmp_path / "white.png"), np.full((64, 96, 3), 255, np.uint8))
    found = []
    for number, model in enumerate((path, path.parent)):
        output = tmp_path / f"out{number}"
        arguments = ["--model", str(model), "--source", str(tmp_path / "white.png"), "--output", str(output)]
        main(["predict", *arguments, "--threads", "1", "--json"])
        assert json.loads(capsys.readouterr().out.splitlines()[-1])["objects"] > 0
        found.append(json.loads((output / "predictions.json").read_text()))
    assert found[0] == found[1]


def test_a_folder_without_one_model_says_so(tmp_path, write):
    with pytest.raises(ModelError, match="holds no OpenVINO models"):
        open_network(str(tmp_path))
    write("a")
    write("b")
    with pytest.raises(ModelError, match="holds 2 OpenVINO models"):
        open_network(str(tmp_path / "ir"))


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_gets_a_sentence_and_does_not_hang(write):
    """While another thread calls, as the locks that it holds stay closed in the child for ever."""
    path, stop = write(), threading.Event()
    image = np.zeros((64, 96, 3), np.uint8)
    with CenterMask(path) as model:

        def busy() -> None:
            while not stop.is_set():
                model(image)

        thread = threading.Thread(target=busy)
        thread.start()
        try:
            for _ in range(3):
                said = in_child(lambda: model(image))
                assert said.startswith("UsageError: ") and "OpenVINO models do not outlive a fork" in said
            assert "OpenVINO models do not outlive a fork" in in_child(lambda: OpenVinoNetwork(path))
        finally:
            stop.set()
            thread.join(30)

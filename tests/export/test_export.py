# SPDX-License-Identifier: Apache-2.0
"""Export: a plain ONNX file with its specification inside, equal to PyTorch on real images or caught."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from pycocotools import mask as coco_mask

from centermask.cli import main
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import Split, find_split
from centermask.evaluation.evaluate import evaluate
from centermask.model.network import CenterMaskNet
from centermask.model.torch_network import TorchNetwork
from centermask.model.weights import save_weights
from centermask_export import export
from centermask_export.checks import outputs as parity
from centermask_export.checks.outputs import OutputParity, ParityReport, compare_networks, match_detections
from centermask_export.export import export_checked
from centermask_export.onnx_file import read_spec, write_onnx
from centermask_export.options import ExportOptions
from centermask_runtime.errors import DataError, ExportError, ModelError, UsageError
from centermask_runtime.networks.gpu_network import INPUT_NAME
from centermask_runtime.networks.network import PEAKS_OUTPUTS, PeakOutputs
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.spec import METADATA_KEY, ModelSpec
from tests.support.exported_models import CONFIG, NUCLEI, frames, tiny_model, tiny_onnx, tiny_spec

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def model() -> CenterMaskNet:
    return tiny_model()


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    return tiny_spec()


@pytest.fixture(scope="module")
def exported() -> Path:
    return tiny_onnx()


# ---- the file -------------------------------------------------------------------------------------------------------


def test_the_file_is_plain_onnx_of_opset_18(exported):
    graph = onnx.load(exported)
    onnx.checker.check_model(graph, full_check=True)
    assert {entry.domain: entry.version for entry in graph.opset_import if entry.domain in ("", "ai.onnx")} == {"": 18}
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}  # no plugin, no custom operator
    assert len(graph.functions) == 0
    assert [path.name for path in exported.parent.iterdir()] == ["tiny.onnx"]  # no external data, no temporary file


def shape_of(value: onnx.ValueInfoProto) -> tuple[str, int, list[int]]:
    tensor = value.type.tensor_type
    return value.name, tensor.elem_type, [dim.dim_value for dim in tensor.shape.dim]


def test_input_is_uint8_and_outputs_are_the_contract(exported):
    graph = onnx.load(exported).graph
    assert [shape_of(value) for value in graph.input] == [(INPUT_NAME, onnx.TensorProto.UINT8, [1, 96, 128, 3])]
    numbers, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32
    assert [shape_of(value) for value in graph.output] == [
        ("scores", numbers, [1, 50]),
        ("labels", whole, [1, 50]),
        ("boxes", numbers, [1, 50, 4]),
        ("shapes", numbers, [1, 50, 9, 9]),
        ("saliency", numbers, [1, 1, 24, 32]),
    ]
    assert tuple(value.name for value in graph.output) == PEAKS_OUTPUTS


def test_cast_comes_before_transpose_and_no_dense_shape_map_is_made(exported):
    """TensorRT refuses to permute uint8; sparse heads never make S x S channels of the whole map."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(exported)).graph
    takes_input = [node.op_type for node in graph.node if INPUT_NAME in node.input]
    assert takes_input == ["Cast"]
    shapes = {value.name: shape_of(value)[2] for value in graph.value_info}
    assert shapes and [name for name, shape in shapes.items() if shape == [1, 81, 24, 32]] == []


def test_the_specification_travels_inside(exported, spec):
    properties = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    found = ModelSpec.from_json(properties[METADATA_KEY], "file")
    assert dataclasses.replace(found, provenance={}) == dataclasses.replace(spec, provenance={}, precision="fp32")
    assert found.provenance["source"] == "tiny.safetensors" and "torch" in found.provenance["exported_with"]
    with OnnxRuntimeNetwork(exported, threads=1) as network:
        assert network.spec == found


# ---- equality -------------------------------------------------------------------------------------------------------


def test_onnx_runtime_equals_pytorch_on_real_images(model, spec, exported):
    with OnnxRuntimeNetwork(exported, threads=2) as network:
        report = compare_networks(TorchNetwork(model, spec), network, frames())
    report.require(exported)
    assert report.ok and report.images == 5 and report.matched > 100
    assert all(output.largest > 0 for output in report.outputs), "compared with itself?"


def test_ap_of_the_file_is_ap_of_the_weights(model, spec, exported, tmp_path):
    """Ground truth is what PyTorch itself finds with a score above 0.6, so AP lies well above 0."""
    content = json.loads((NUCLEI / "annotations" / "instances_val.json").read_text())
    found = evaluate(TorchNetwork(model, spec), load_dataset(find_split(NUCLEI, "val")), score_threshold=0.6).results
    content["annotations"] = [
        {"id": n + 1, "iscrowd": 0, **one} for n, one in enumerate(found) if coco_mask.area(one["segmentation"]) > 0
    ]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    dataset = load_dataset(Split.of_files(tmp_path / "truth.json", NUCLEI / "val"))
    torch_ap = evaluate(TorchNetwork(model, spec), dataset).metrics
    with OnnxRuntimeNetwork(exported, threads=2) as network:
        onnx_ap = evaluate(network, dataset).metrics
    assert torch_ap["segm"]["AP"] > 0.5 and torch_ap["bbox"]["AP"] > 0.5
    for kind in ("bbox", "segm"):
        for name, value in torch_ap[kind].items():
            assert onnx_ap[kind][name] == pytest.approx(value, abs=1e-3, nan_ok=True)


def test_a_tampered_graph_is_caught(model, spec, exported, tmp_path):
    """One initializer of one head changed: the file loads and runs, and is still found out."""
    graph = onnx.load(exported)
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("shape.2.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.05), bias.name))
    path = tmp_path / "tampered.onnx"
    onnx.save(graph, path)
    with OnnxRuntimeNetwork(path, threads=2) as network:
        report = compare_networks(TorchNetwork(model, spec), network, frames(2))
    assert not report.ok and [output.name for output in report.outputs if not output.ok] == ["shapes"]
    with pytest.raises(
        ExportError, match=r"tampered.onnx does not give what its source gives .*shapes by 0.05"
    ) as caught:
        report.require(path)
    assert caught.value.exit_code == 5


def test_export_checked_writes_and_reports(model, spec, tmp_path):
    """The whole way of `centermask export`, with batch 2: of three images, the last one is padded by itself."""
    weights, images = tmp_path / "tiny.safetensors", tmp_path / "images"
    save_weights(weights, model.state_dict(), spec, CONFIG)
    images.mkdir()
    for index, frame in enumerate(frames(3)):
        cv2.imwrite(str(images / f"{index}.png"), frame)
    report = export_checked(weights, tmp_path / "tiny.onnx", ExportOptions(batch=2), source=images)
    report.require(tmp_path / "tiny.onnx")
    assert report.images == 4 and report.matched > 100
    with OnnxRuntimeNetwork(tmp_path / "tiny.onnx", threads=1) as network:
        assert network.spec.provenance["source"].startswith("tiny.safetensors sha256 ")
        with pytest.raises(ModelError, match=r"uint8 \[2, 96, 128, 3\]"):
            network.run(np.zeros((1, 96, 128, 3), np.uint8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "tiny.onnx", "tiny.safetensors"]


@pytest.fixture
def quick_export(monkeypatch):
    """The exporter's file, without waiting for the exporter again."""

    def copy(model, spec, path, options, *, source):
        shutil.copyfile(tiny_onnx(), path)
        return read_spec(path)

    monkeypatch.setattr(export, "export_onnx", copy)


def test_an_export_that_differs_is_never_published(model, spec, tmp_path, monkeypatch, capsys, quick_export):
    """Through the command: exit code 5, the table in spite of it, and an older good file stays as it was."""
    weights, path = tmp_path / "tiny.safetensors", tmp_path / "tiny.onnx"
    save_weights(weights, model.state_dict(), spec, CONFIG)
    path.write_bytes(b"the older good one")
    monkeypatch.setattr(parity, "TOLERANCES", {**parity.TOLERANCES, "shapes": -1.0})
    with pytest.raises(SystemExit) as caught:
        main(["export", "--model", str(weights), "--output", str(path)])
    assert caught.value.code == 5
    printed = capsys.readouterr()
    assert "FAILED" in printed.out and "saliency" in printed.out
    assert printed.err.startswith("Error: ") and "shapes by" in printed.err
    assert path.read_bytes() == b"the older good one" and sorted(tmp_path.iterdir()) == [path, weights]


def test_images_that_are_not_there_are_found_before_the_export(model, spec, tmp_path):
    weights, path = tmp_path / "tiny.safetensors", tmp_path / "tiny.onnx"
    save_weights(weights, model.state_dict(), spec, CONFIG)
    with pytest.raises(DataError, match="nowhere"):
        export_checked(weights, path, source=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == [weights]


# ---- matching detections --------------------------------------------------------------------------------------------


def outputs_of(scores: list[float], boxes: list[float], labels: list[int]) -> PeakOutputs:
    corner = np.array(boxes, np.float32)[:, None] + np.array([0, 0, 10, 10], np.float32)
    k = len(scores)
    return PeakOutputs(
        np.array([scores], np.float32), np.array([labels], np.int32), corner[None],
        np.zeros((1, k, 2, 2), np.float32), np.zeros((1, 1, 4, 4), np.float32),
    )  # fmt: skip


def test_equal_scores_in_another_order_match():
    one = outputs_of([0.9, 0.5, 0.5], [0, 20, 40], [0, 0, 1])
    other = outputs_of([0.9, 0.5, 0.5], [0, 40, 20], [0, 1, 0])
    pairs, alone = match_detections(one, other, 0)
    assert pairs.tolist() == [[0, 0], [1, 2], [2, 1]] and alone == 0


def test_only_a_tie_at_the_cut_may_stay_alone():
    one = outputs_of([0.9, 0.5, 0.3001], [0, 20, 40], [0, 0, 0])
    tie = outputs_of([0.9, 0.5, 0.3], [0, 20, 70], [0, 0, 0])
    assert match_detections(one, tie, 0)[1] == 0
    lost = outputs_of([0.9, 0.3, 0.3], [0, 70, 40], [0, 0, 0])
    assert match_detections(one, lost, 0)[1] == 1  # the one of score 0.5


def test_the_same_box_of_another_class_is_another_detection():
    one, other = outputs_of([0.9, 0.1], [0, 50], [0, 0]), outputs_of([0.9, 0.1], [0, 50], [1, 0])
    assert match_detections(one, other, 0)[1] == 2


def test_fill_of_score_zero_is_not_compared():
    one, other = outputs_of([0.9, 0.0], [0, 50], [0, 0]), outputs_of([0.9, 0.0], [0, 80], [0, 1])
    pairs, alone = match_detections(one, other, 0)
    assert pairs.tolist() == [[0, 0]] and alone == 0


def test_nothing_to_compare_is_no_success():
    report = ParityReport(2, 0, 0, (OutputParity("scores", 0.0, 0.0, 1e-3),))
    assert not report.ok
    with pytest.raises(ExportError, match="finding nothing to compare"):
        report.require(Path("x.onnx"))


def test_a_difference_that_is_not_a_number_is_a_difference():
    assert not OutputParity("scores", float("nan"), 0.0, 1e-3).ok


# ---- refusals -------------------------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_named(model, spec, tmp_path):
    (tmp_path / "file").write_text("")
    weights = tmp_path / "tiny.safetensors"
    save_weights(weights, model.state_dict(), spec, CONFIG)
    with pytest.raises(UsageError, match=r"file/x.onnx cannot be written, .*: choose another output"):
        export_checked(weights, tmp_path / "file" / "x.onnx")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (onnx.checker.ValidationError("a node is wrong\nContext: ..."), "a node is wrong"),
        (onnx.shape_inference.InferenceError("shapes disagree"), "shapes disagree"),
        (onnx.checker.ValidationError(""), "ValidationError"),
    ],
)
def test_a_failed_export_leaves_the_old_file_and_nothing_half_written(exported, tmp_path, monkeypatch, error, reason):
    path = tmp_path / "x.onnx"
    path.write_bytes(b"the old one")
    graph = onnx.load(exported)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    with pytest.raises(ExportError, match=rf"failed \({reason}\); nothing was written\."):
        write_onnx(graph, path)
    assert path.read_bytes() == b"the old one" and list(tmp_path.iterdir()) == [path]

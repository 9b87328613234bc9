# SPDX-License-Identifier: Apache-2.0
"""From weights to a published artefact: whole, checked, or not at all."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from centermask.model.weights import load_weights, save_weights
from centermask.opening import find_model
from centermask_export import from_weights
from centermask_export.checks import CheckError, Checks
from centermask_export.from_weights import export_checked, export_model
from centermask_export.options import ExportOptions
from centermask_runtime.errors import DataError, ModelError, UsageError
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from tests.support.exported_models import (
    CONFIG,
    RELEASED,
    exporter_of,
    frames,
    quick_export,
    released,
    tiny_model,
    tiny_spec,
)


@pytest.fixture
def weights(tmp_path):
    save_weights(tmp_path / "tiny.safetensors", tiny_model().state_dict(), tiny_spec(), CONFIG)
    return tmp_path / "tiny.safetensors"


@pytest.mark.slow
def test_an_export_is_written_and_compared(weights, tmp_path):
    """The whole way of `centermask export`, with batch 2: of three images, the last one is padded by itself."""
    images = tmp_path / "images"
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


@pytest.mark.slow
def test_another_size_does_not_replace_the_file_of_the_first(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(from_weights, "export_onnx", quick_export)
    for wish in ({}, {"imgsz": (96, 128)}, {"imgsz": (128, 128)}, {"opset": 20}):  # 96 x 128 is the model's own
        export_model(weights, tmp_path, options=ExportOptions(**wish))
    names = ["tiny.onnx", "tiny.safetensors", "tiny_128x128.onnx", "tiny_opset20.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.slow
def test_dense_maps_that_differ_are_not_published(tmp_path, monkeypatch):
    """The file of another model of the same shape, at level heads."""
    monkeypatch.setattr(from_weights, "export_onnx", exporter_of("heads_fp16"))
    model, spec = released()
    changed = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    changed["saliency.2.bias"] += 5.0
    save_weights(tmp_path / "mine.safetensors", changed, spec, load_weights(find_model(RELEASED))[2])
    wish = ExportOptions(graph="heads", precision="fp16")
    with pytest.raises(CheckError, match=r"does not give what its source gives .* saliency by 5"):
        export_model(tmp_path / "mine.safetensors", tmp_path, options=wish)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


@pytest.mark.parametrize(
    ("wishes", "checks", "words"),
    [
        ({"precision": "int8"}, {}, "precision int8 needs calib_data"),
        ({"graph": "heads"}, {"dataset": object()}, "level heads ends before them"),
        ({"imgsz": (100, 128)}, {}, "imgsz must be multiples of 32 on both sides for 'tiny', not 100x128"),
        ({"format": "toy"}, {}, "The format toy is not known"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(weights, tmp_path, wishes, checks, words):
    with pytest.raises(UsageError, match=words):
        export_model(weights, tmp_path / "new", options=ExportOptions(**wishes), checks=Checks(**checks))
    assert list(tmp_path.iterdir()) == [weights]


def test_images_that_are_not_there_are_found_before_the_export(weights, tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        export_checked(weights, tmp_path / "tiny.onnx", source=tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == [weights]


def test_a_place_that_cannot_be_written_is_named(weights, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file/x.onnx cannot be written, .*: choose another output"):
        export_checked(weights, tmp_path / "file" / "x.onnx")

# SPDX-License-Identifier: Apache-2.0
"""A model opens by its file or by a released name, and what cannot be opened is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from centermask.opening import MODEL_SUFFIXES, find_model, open_network, open_pipeline
from centermask.released import ALIASES, DEFAULT, released_models
from centermask_runtime.device import Device
from centermask_runtime.errors import ModelError, UsageError
from centermask_runtime.networks import opening as exported
from tests.support.exported_models import frames, tiny_onnx
from tests.support.given_networks import assert_same


def test_a_released_model_opens_by_its_name_and_by_what_it_finds():
    assert find_model("nuclei") == find_model("nuclei_dla_46c") == released_models()["nuclei_dla_46c"]
    assert find_model("nuclei").is_file() and DEFAULT in released_models()
    assert set(ALIASES.values()) <= released_models().keys()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nucleii", "no released model; did you mean 'nuclei'"),
        ("nuclei_dla46c", "did you mean 'nuclei_dla_46c'"),
        ("zebra", "known are: nuclei, nuclei_dla_46c"),
        ("missing.onnx", "There is no model file missing.onnx"),
        ("missing.safetensors", "There is no model file missing.safetensors"),
    ],
)
def test_an_unknown_name_proposes_the_nearest(name, sentence):
    with pytest.raises(ModelError, match=sentence):
        find_model(name)


def test_a_file_with_another_suffix_says_which_there_are(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"model\.pt' is no model file \(\.safetensors, \.onnx, \.xml, "):
        find_model(tmp_path / "model.pt")
    with pytest.raises(ModelError, match="holds no OpenVINO models"):
        find_model(tmp_path)


def test_the_runtime_says_what_opens_weights_and_names():
    assert set(exported.MODEL_SUFFIXES) < set(MODEL_SUFFIXES)
    with pytest.raises(ModelError, match="needs PyTorch: open it by `from centermask import CenterMask`"):
        exported.open_network(released_models()["nuclei"])
    with pytest.raises(ModelError, match="a released model opens by its name with `from centermask import"):
        exported.open_network("nuclei")


def test_all_openers_give_the_same_results():
    frame = frames(1)[0]
    with open_pipeline(tiny_onnx(), Device.of("cpu"), 1, conf=0.3) as one:
        found = one(frame)
    with exported.open_network(tiny_onnx(), threads=1) as low, open_network(str(tiny_onnx()), threads=1) as high:
        image = np.zeros((1, *low.spec.input_hw, 3), np.uint8)
        np.testing.assert_array_equal(low.run(image).scores, high.run(image).scores)
    with open_pipeline(str(tiny_onnx()), threads=1, conf=0.3) as other:
        assert_same(found, other(frame))
    assert len(found) > 0 and min(found.scores) >= 0.3


def test_a_selection_that_makes_no_sense_is_refused_when_the_model_opens():
    with pytest.raises(UsageError, match="conf must be"), open_pipeline(tiny_onnx(), conf=2):
        pass


def test_an_engine_does_not_run_on_the_cpu(tmp_path):
    (tmp_path / "a.engine").touch()
    with pytest.raises(UsageError, match="is an engine, which only a GPU runs"):
        open_network(Path(tmp_path / "a.engine"), Device.of("cpu"))


@pytest.mark.parametrize(
    ("gpus", "said"),
    [
        (0, "Device cuda:5 was asked for, but PyTorch finds no GPU here; use device cpu."),
        (1, "Device cuda:5 was asked for, but PyTorch finds one GPU here, cuda:0; use that, or device cpu."),
        (
            2,
            "Device cuda:5 was asked for, but PyTorch finds 2 GPUs here, cuda:0 to cuda:1; use one of them, or device "
            "cpu.",
        ),
    ],
)
def test_a_gpu_that_is_not_here_is_answered_with_those_that_are(gpus, said, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    with pytest.raises(UsageError) as refused:
        open_network("nuclei", Device.of("cuda:5"))
    assert str(refused.value) == said

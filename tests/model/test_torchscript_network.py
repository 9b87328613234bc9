# SPDX-License-Identifier: Apache-2.0
"""TorchScript: the trace is the model to the last bit, for any batch, and carries its specification."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from centermask.cli import main
from centermask.config import Config, InputConfig, ModelConfig
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.model.network import build_model
from centermask.model.torch_network import TorchNetwork
from centermask.model.torchscript_network import TorchScriptNetwork
from centermask.model.weights import spec_of
from centermask.opening import open_network
from centermask_export.checks.outputs import compare_networks
from centermask_export.to_torchscript import write_torchscript
from centermask_runtime.errors import ModelError, UsageError
from tests.support.places import NUCLEI

CONFIG = Config(
    "tiny",
    ModelConfig("dla_46c", head_channels=16, shape_size=8, saliency="class_agnostic", max_detections=50),
    InputConfig(size=(96, 128), mean_bgr=(0.3, 0.3, 0.3), std_bgr=(0.25, 0.25, 0.25)),
)


@pytest.fixture(scope="module")
def network() -> TorchNetwork:
    torch.manual_seed(0)
    model = build_model(CONFIG, 1)
    with torch.no_grad():
        model.size[2].bias.fill_(5.0)  # boxes of some pixels
    return TorchNetwork(model, spec_of(CONFIG, ("nucleus",), (1,)))


@pytest.fixture(scope="module")
def traced(network, tmp_path_factory) -> Path:
    return write_torchscript(network.model, network.spec, tmp_path_factory.mktemp("ts") / "sub" / "tiny.torchscript")


def test_outputs_are_those_of_the_model_on_real_images(network, traced):
    dataset = load_dataset(find_split(NUCLEI, "val"))
    with TorchScriptNetwork(traced) as script:
        report = compare_networks(network, script, [dataset.image(index) for index in range(4)])
    assert report.matched > 100 and report.unmatched == 0
    assert max(output.largest for output in report.outputs) <= 1e-5


def test_a_trace_of_one_image_takes_more(network, traced):
    images = np.random.default_rng(0).integers(0, 256, (3, 96, 128, 3), dtype=np.uint8)
    with TorchScriptNetwork(traced) as script:
        for a, b in zip(vars(script.run(images)).values(), vars(network.run(images)).values(), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_specification_travels_inside(network, traced):
    found = TorchScriptNetwork(traced).spec
    assert (found.class_names, found.input_hw, found.shape_size) == (("nucleus",), (96, 128), 8)
    assert "torch" in found.provenance["exported_with"]
    assert [path.name for path in traced.parent.iterdir()] == ["tiny.torchscript"]


def test_predict_and_compare_take_the_file(traced, tmp_path, capsys):
    source = str(next(iter(sorted((NUCLEI / "val").iterdir()))))
    main(["predict", "--model", str(traced), "--source", source, "--output", str(tmp_path / "out"), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 1
    arguments = ["--source", source, "--conf", "0.01", "--max-box-diff", "0", "--min-mask-iou", "1"]
    main(["compare", str(traced), str(traced), *arguments])
    assert "0 in one only" in " ".join(capsys.readouterr().out.split())


def test_wrong_files_and_images_are_one_sentence(traced, tmp_path):
    cut = tmp_path / "cut.torchscript"
    for part in (0, 1000, traced.stat().st_size // 2):
        cut.write_bytes(traced.read_bytes()[:part])
        with pytest.raises(ModelError, match=r"cut\.torchscript is not a TorchScript file"):
            open_network(str(cut))
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(1)), tmp_path / "other.torchscript")
    with pytest.raises(ModelError, match="no CenterMask specification"):
        open_network(str(tmp_path / "other.torchscript"))
    with pytest.raises(ModelError, match=r"uint8 \[N, 96, 128, 3\], not float32"):
        TorchScriptNetwork(traced).run(np.zeros((1, 96, 128, 3), np.float32))


def test_wishes_that_make_no_sense_are_refused(network, tmp_path):
    with pytest.raises(UsageError, match="at least 1"):
        write_torchscript(network.model, network.spec, tmp_path / "a.torchscript", batch=0)
    with pytest.raises(UsageError, match=r"is a \.torchscript file"):
        write_torchscript(network.model, network.spec, tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())

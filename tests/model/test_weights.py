# SPDX-License-Identifier: Apache-2.0
"""Weights files: they come back, and whatever is wrong with one is said in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from centermask.config import Config, ModelConfig
from centermask.model.network import build_model
from centermask.model.weights import load_weights, save_weights, spec_of
from centermask_runtime.errors import CenterMaskError, ModelError

CONFIG = Config("tiny", ModelConfig("dla_46c", head_channels=16, shape_size=8, max_detections=10))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, build_model(CONFIG, 3).state_dict(), spec_of(CONFIG, ("a", "b", "c"), (1, 2, 9)), CONFIG)
    return path


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:  # type: ignore[no-untyped-call, unused-ignore]
        return dict(file.metadata())


def test_weights_come_back(weights):
    model, spec, config = load_weights(weights)
    assert config == CONFIG and spec.category_ids == (1, 2, 9) and not model.training
    assert [path.name for path in weights.parent.iterdir()] == ["tiny.safetensors"]  # no temporary file stays


def test_weights_can_be_read_by_whom_the_umask_lets(weights, tmp_path):
    (tmp_path / "plain").touch()
    assert weights.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_weights_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"There is no weights file .*none.safetensors"):
        load_weights(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, 5000, -1], ids=lambda keep: f"{keep} bytes")
def test_a_truncated_weights_file_is_named(weights, tmp_path, keep):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ModelError, match="is not a readable safetensors file"):
        load_weights(cut)


def test_a_folder_is_no_weights_file(tmp_path):
    with pytest.raises(ModelError, match="is not a readable safetensors file"):
        load_weights(tmp_path)


def test_foreign_safetensors_are_named(tmp_path):
    save_file({"layer.weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelError, match="is a safetensors file, but not one of CenterMask's"):
        load_weights(tmp_path / "foreign.safetensors")


def test_weights_that_do_not_fit_their_config_are_named(weights, tmp_path):
    state = {**load_file(weights), "heatmap.2.bias": torch.zeros(7)}
    save_file(state, tmp_path / "odd.safetensors", metadata=metadata_of(weights))
    with pytest.raises(ModelError, match=r"do not fit the model it describes.*heatmap\.2\.bias") as caught:
        load_weights(tmp_path / "odd.safetensors")
    assert "\n" not in str(caught.value)


def test_weights_that_cannot_be_written_leave_the_old_file(weights, tmp_path):
    path = tmp_path / "kept.safetensors"
    path.write_bytes(weights.read_bytes())
    spec = spec_of(CONFIG, ("a", "b", "c"), (1, 2, 9))
    with pytest.raises(CenterMaskError, match="cannot be written"):
        save_weights(path / "x.safetensors", build_model(CONFIG, 3).state_dict(), spec, CONFIG)
    with pytest.raises(RuntimeError, match="share"):  # what safetensors refuses
        one = torch.zeros(4)
        save_weights(path, {"a": one, "b": one}, spec, CONFIG)
    assert path.read_bytes() == weights.read_bytes() and [p.name for p in tmp_path.iterdir()] == ["kept.safetensors"]

# SPDX-License-Identifier: Apache-2.0
"""A training in one call from Python, and the Python of docs/training.md, which must run as it stands there."""

from __future__ import annotations

import re

import pytest

from centermask.model.weights import load_weights
from centermask.training import train
from centermask.training.run_folder import RunFolder
from centermask_runtime.errors import UsageError
from tests.support.places import ROOT
from tests.support.tiny_training import CONFIG, seven_shapes


def test_one_call_trains_and_gives_back_what_was_measured(tmp_path):
    shapes = seven_shapes(tmp_path)
    steps: list[int] = []
    result = train(
        CONFIG, shapes, run_folder=tmp_path / "run", device="cpu", plots=False, quiet=True, epochs=1,
        overrides=["train.ema=0.5"],
        callbacks={"on_train_batch_end": lambda training: steps.append(training.state.step)},
    )  # fmt: skip
    assert steps == [1, 2, 3]
    assert result.run == RunFolder(tmp_path / "run") and result.run.last.exists()
    _, spec, config = load_weights(result.run.best)
    assert spec == result.spec and (config.train.epochs, config.train.ema) == (1, 0.5)
    assert 0 <= result.metrics["segm"]["AP"] <= 1
    again = train(
        CONFIG, tmp_path, run_folder=tmp_path / "again", weights=result.run.best, device="cpu", plots=False, quiet=True,
        steps=1,
    )  # fmt: skip
    assert again.spec.provenance["started_from"] == "best.safetensors"


def test_an_unknown_setting_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"There is no setting 'epoch'; did you mean 'epochs'\?"):
        train("dla_46c", tmp_path, epoch=3)


@pytest.mark.parametrize(
    ("config", "data", "options", "sentence"),
    [
        (3, "d", {}, "config must be a name, a YAML file or a Config, not 3"),
        (None, "d", {}, "config must be .*, not None"),
        ({}, "d", {}, r"config must be .*, not \{\}"),
        ("dla_46c", None, {}, "data must be a folder, a name, or two Datasets in a tuple, not None"),
        ("dla_46c", 3, {}, "data must be .*, not 3"),
        ("dla_46c", (1, 2), {}, "data must be"),
        ("dla_46c", "d", {"epochs": "3"}, "epochs must be a number between .*, not '3'"),
        ("dla_46c", "d", {"batch": "2"}, "batch must be a number"),
        ("dla_46c", "d", {"batch": True}, "batch must be a number"),
        ("dla_46c", "d", {"epochs": 1.5}, "'train.epochs' must be a whole number or auto, not 1.5"),
        ("dla_46c", "d", {"imgsz": 10**9}, "imgsz must be a whole number from 1 to 16384"),
        ("dla_46c", "d", {"num_gpus": "1"}, "num_gpus must be a whole number"),
        ("dla_46c", "d", {"overrides": "train.lr=1"}, "overrides must be a list of texts"),
        ("dla_46c", "d", {"callbacks": 3}, "callbacks must be a dict"),
        ("dla_46c", "d", {"callbacks": {"on_fit_end": 3}}, "The callback of on_fit_end must be a function"),
        ("dla_46c", "d", {"plots": "no"}, "plots must be True or False"),
        ("dla_46c", "d", {"run_folder": 3}, "run_folder is named by its path, not by int"),
        ("dla_46c", "d", {"weights": b"w"}, "weights is named by its path, not by bytes"),
        ("dla_46c", "d", {"device": None}, "There is no device None"),
    ],
)
def test_an_argument_of_another_kind_is_refused_before_anything_is_read(config, data, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        train(config, data, **options)


def test_the_python_of_the_training_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names["result"].run.best.exists()  # type: ignore[attr-defined]

# SPDX-License-Identifier: Apache-2.0
"""Names of released models: each opens weights that ship with the package."""

from __future__ import annotations

from centermask.model.weights import load_weights
from centermask.released import ALIASES, DEFAULT, FOLDER, released_models


def test_every_file_and_every_alias_is_a_name():
    models = released_models()
    assert set(models) == {path.stem for path in FOLDER.glob("*.safetensors")} | set(ALIASES)
    assert DEFAULT in models and all(models[alias] == models[name] for alias, name in ALIASES.items())


def test_every_released_model_opens_and_has_classes():
    for path in set(released_models().values()):
        _, spec, _ = load_weights(path)
        assert spec.class_names and spec.name == path.stem

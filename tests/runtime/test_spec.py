# SPDX-License-Identifier: Apache-2.0
"""The specification survives the artefact and refuses what cannot be."""

from __future__ import annotations

import dataclasses
import json

import pytest

from centermask_runtime.errors import ModelError
from centermask_runtime.spec import SPEC_VERSION, ModelSpec


def test_a_spec_survives_json(small_spec):
    spec = dataclasses.replace(small_spec, provenance={"data": "cats"}, precision="fp16")
    found = ModelSpec.from_json(spec.to_json(), "x.onnx")
    assert found == spec and hash(found.class_names) == hash(spec.class_names)


def test_the_grid_is_the_input_divided_by_the_stride(small_spec):
    assert small_spec.grid_hw == (16, 24)
    assert small_spec.num_classes == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"category_ids": (1, 2)}, "3 class names and 2 category ids"),
        ({"saliency_channels": 2}, "1 or the number of classes, 3"),
        ({"input_hw": (64, 100)}, "multiple of 32"),
        ({"input_hw": (0, 64)}, "multiple of 32"),
        ({"size_multiple": 128}, r"multiple of 128 on both sides, not \(64, 96\)"),
        ({"size_multiple": 0}, "at least 1, not 0"),
        ({"max_detections": 3 * 16 * 24 + 1}, "1153 detections were asked of a heat map of 1152 cells"),
        ({"graph_level": "masks"}, "not one of peaks, heads"),
    ],
)
def test_what_cannot_be_is_refused(small_spec, change, words):
    with pytest.raises(ModelError, match=words):
        dataclasses.replace(small_spec, **change)


def test_an_artefact_of_an_older_release_has_the_usual_multiple(small_spec):
    """They were written before the entry; the same bytes are written still, and read by those releases."""
    assert "size_multiple" not in json.loads(small_spec.to_json())
    assert ModelSpec.from_json(small_spec.to_json(), "old.onnx").size_multiple == 32
    coarse = dataclasses.replace(small_spec, input_hw=(128, 256), size_multiple=128)
    assert ModelSpec.from_json(coarse.to_json(), "new.onnx").size_multiple == 128


def changed(spec, **values):
    return json.dumps({**json.loads(spec.to_json()), **values})


def test_another_version_says_so(small_spec):
    with pytest.raises(ModelError, match=rf"a\.onnx carries .* version 99; this release reads version {SPEC_VERSION}"):
        ModelSpec.from_json(changed(small_spec, spec_version=99), "a.onnx")


def test_an_unknown_entry_names_the_nearest(small_spec):
    with pytest.raises(ModelError, match=r"'shape_sise' .* a\.onnx: did you mean 'shape_size'"):
        ModelSpec.from_json(changed(small_spec, shape_sise=3), "a.onnx")


def test_a_missing_entry_is_incomplete(small_spec):
    values = json.loads(small_spec.to_json())
    del values["class_names"]
    with pytest.raises(ModelError, match="incomplete"):
        ModelSpec.from_json(json.dumps(values), "a.onnx")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '"text"'])
def test_damaged_text_is_a_model_error(text):
    with pytest.raises(ModelError, match=r"a\.onnx is damaged"):
        ModelSpec.from_json(text, "a.onnx")

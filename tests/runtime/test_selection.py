# SPDX-License-Identifier: Apache-2.0
"""A user's words for what is kept become numbers in one place, and what makes no sense is refused in one sentence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.selection import Selection


def test_what_is_not_said_comes_from_the_spec(small_spec):
    assert Selection.of(small_spec) == Selection(0.25, 0.3, 8, None)


def test_what_is_said_wins(small_spec):
    found = Selection.of(small_spec, conf=0, mask_threshold=1, max_det=np.int64(3), classes=["dog", 2])
    assert found == Selection(0.0, 1.0, 3, (1, 2))


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ("dog", (1,)), (["kite", "cat"], (2, 0)), (2, (2,)), ([0, "dog"], (0, 1)), (["1"], (1,)), ("2", (2,)),
        (np.array([2, 1]), (2, 1)), (np.array(0), (0,)), ([1, "dog", 1, 0], (1, 0)),
        ((name for name in ("cat",)), (0,)),
    ],
)  # fmt: skip
def test_classes_are_names_or_labels(small_spec, classes, labels):
    assert Selection.of(small_spec, classes=classes).classes == labels


def test_digits_are_a_name_where_a_class_is_called_so(small_spec):
    numbered = dataclasses.replace(small_spec, class_names=("2", "1", "0"))
    assert Selection.of(numbered, classes=["2", 2, "1"]).classes == (0, 2, 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"conf": 1.5}, "conf must be a number between 0 and 1, not 1.5"),
        ({"conf": "0.5"}, "conf must be a number between 0 and 1, not '0.5'"),
        ({"conf": True}, "conf must be a number"),
        ({"mask_threshold": -0.1}, "mask_threshold must be a number between 0 and 1, not -0.1"),
        ({"mask_threshold": float("nan")}, "mask_threshold must be a number between 0 and 1, not nan"),
        ({"max_det": 0}, "max_det must be a whole number of at least 1, not 0"),
        ({"max_det": 2.5}, "max_det must be a whole number of at least 1, not 2.5"),
        ({"classes": ["dgo"]}, "no class 'dgo'; did you mean 'dog'"),
        ({"classes": [3]}, "no class number 3; it has 0 to 2"),
        ({"classes": "-1"}, "no class '-1'"),
        ({"classes": [-1]}, "no class number -1; it has 0 to 2"),
        ({"classes": [1.0]}, "names or labels of classes, not 1.0"),
        ({"classes": []}, "classes is empty, so nothing would be found"),
        ({"classes": b"dog"}, "names or labels of classes, not b'dog'"),
        ({"conf": 10**400}, "conf must be a number between 0 and 1, not a number of more than 40 digits"),
        ({"max_det": -(10**400)}, "max_det must be a whole number of at least 1, not a number"),
        ({"classes": 1.5}, "names or labels of classes, not 1.5"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(small_spec, words, sentence):
    with pytest.raises(UsageError, match=sentence):
        Selection.of(small_spec, **words)

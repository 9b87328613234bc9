# SPDX-License-Identifier: Apache-2.0
"""What errors share: an exit code of each kind, and the clauses that name what was meant."""

from __future__ import annotations

import re

import pytest

from centermask_runtime import errors
from centermask_runtime.errors import CenterMaskError, did_you_mean, first_line, shown, some


def test_each_kind_has_its_exit_code_as_the_table_says():
    said = {name: int(code) for name, code in re.findall(r"(\w+) +exit code (\d)", errors.__doc__ or "")}
    found = {
        kind.__name__: kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, CenterMaskError)
    }
    assert found.pop("DiskFullError") == CenterMaskError.exit_code  # a kind of the first, and its code
    assert said == found and len(found) == 5


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("First.\nSecond."), "First"),
        (ValueError("  one line "), "one line"),
        (KeyError(), "KeyError"),
    ],
)
def test_the_first_line_of_a_librarys_error(error, line):
    assert first_line(error) == line


def test_the_nearest_word_is_proposed_and_all_where_none_is_near():
    assert did_you_mean("epoch", ["batch", "epochs"]) == "did you mean 'epochs'?"
    assert did_you_mean("xyz", ["epochs", "batch"]) == "known are: batch, epochs"


def test_five_values_are_named_and_more_are_counted():
    assert some(range(5)) == "0, 1, 2, 3, 4"
    assert some(range(6)) == "0, 1, 2, 3, 4, ... (6 in all)"


def test_a_path_in_a_sentence_stays_on_one_line_and_short():
    assert shown("a/ünï 猫.png") == "a/ünï 猫.png"
    assert shown("a\nb\0.png") == "a\\nb\\x00.png"
    assert len(shown("x" * 10_000)) < 310

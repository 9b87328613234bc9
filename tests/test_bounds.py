# SPDX-License-Identifier: Apache-2.0
"""Bounds on fields: the value at the bound passes, the one beyond is named, inside sections and for None."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from centermask.bounds import AT_LEAST_0, AT_LEAST_1, BELOW_1, POSITIVE, PROBABILITY, bounded, check_bounds, one_of
from centermask_runtime.errors import UsageError


@dataclass(frozen=True)
class Inner:
    epochs: int = bounded(73, AT_LEAST_1)
    limit: int | None = bounded(None, AT_LEAST_0)
    free: int = -5


@dataclass(frozen=True)
class Outer:
    name: str = ""
    kind: str = one_of("sgd", "adamw")
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("bound", "holds", "broken"),
    [
        (AT_LEAST_1, (1, 2), (0, -1, math.nan)),
        (AT_LEAST_0, (0, 1), (-1, math.nan)),
        (POSITIVE, (1e-9, 1), (0, -1, math.nan)),
        (PROBABILITY, (0, 0.5, 1), (-0.1, 1.1, math.nan)),
        (BELOW_1, (0, 0.999), (1, -0.1, math.nan)),
    ],
)
def test_a_bound_holds_up_to_its_own_value_and_never_for_nan(bound, holds, broken):
    assert all(bound.holds(value) for value in holds)
    assert not any(bound.holds(value) for value in broken)


def test_defaults_and_values_within_their_bounds_pass():
    check_bounds(Outer())
    check_bounds(Outer(kind="adamw", inner=Inner(epochs=1, limit=0, free=-100)))


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        (Outer(inner=Inner(epochs=0)), "inner.epochs must be at least 1, not 0."),
        (Outer(inner=Inner(limit=-1)), "inner.limit must be at least 0 or null, not -1."),
        (Outer(kind="adamv"), "kind 'adamv' is unknown; did you mean 'adamw'?"),
        (Outer(kind="?"), "kind '?' is unknown; known are: adamw, sgd"),
    ],
)
def test_the_first_field_beyond_its_bound_is_named_with_its_section(section, sentence):
    with pytest.raises(UsageError) as refused:
        check_bounds(section)
    assert str(refused.value) == sentence

# SPDX-License-Identifier: Apache-2.0
"""Bounds stand on the dataclass fields that they limit, and one loop checks them all.

A field is declared as `epochs: int = bounded(73, AT_LEAST_1)`; check_bounds then refuses the value 0 with "epochs must
be at least 1, not 0."
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from centermask_runtime.errors import UsageError, did_you_mean

METADATA_KEY = "bound"


@dataclass(frozen=True)
class Bound:
    """What a value must be: in words that follow "must be", and as a test of the value, which NaN does not pass."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class OneOf:
    """The value must be one of these words."""

    known: tuple[str, ...]


AT_LEAST_1 = Bound("at least 1", lambda value: value >= 1)
AT_LEAST_0 = Bound("at least 0", lambda value: value >= 0)
POSITIVE = Bound("positive", lambda value: value > 0)
PROBABILITY = Bound("between 0 and 1", lambda value: 0 <= value <= 1)
BELOW_1 = Bound("at least 0 and below 1", lambda value: 0 <= value < 1)


def bounded(default: Any, bound: Bound | OneOf) -> Any:
    """Makes a dataclass field with a bound. Where the default is None, None is allowed beside what the bound allows."""
    return dataclasses.field(default=default, metadata={METADATA_KEY: bound})


def one_of(default: str, *others: str) -> Any:
    """Makes a dataclass field for one of several words, of which the first is the default."""
    return bounded(default, OneOf((default, *others)))


def check_bounds(section: Any, where: str = "") -> None:
    """Raises UsageError that names the first field, of a dataclass or of one inside it, whose bound does not hold."""
    for field in dataclasses.fields(section):
        key, value = f"{where}{field.name}", getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            check_bounds(value, f"{key}.")
            continue
        bound: Bound | OneOf | None = field.metadata.get(METADATA_KEY)
        may_be_none = field.default is None
        if bound is None or (value is None and may_be_none):
            continue
        if isinstance(bound, OneOf):
            if value not in bound.known:
                raise UsageError(f"{key} '{value}' is unknown; {did_you_mean(value, bound.known)}")
        elif not bound.holds(value):
            shown = list(value) if isinstance(value, tuple) else value
            raise UsageError(f"{key} must be {bound.words}{' or null' if may_be_none else ''}, not {shown}.")

# SPDX-License-Identifier: Apache-2.0
"""What callers give in Python, checked: places in a list, whole numbers, sizes, arrays and paths."""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError, UsageError

LONGEST_SIDE = 1 << 24  # pixels of a frame, and of an offset in one: float32 counts them exactly


def short(value: object) -> str:
    """The value as Python writes it, cut where it is long, for a sentence."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**40:
        return "a number of more than 40 digits"
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number of any kind, also numpy's, as an int. Raises UsageError that calls it `name`."""
    number = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not number or value < least or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{name} must be a whole number {bounds}, not {short(value)}.")
    return int(value)


def number(name: str, value: Any, least: float, most: float) -> float:
    """A number of any kind between two, as a float. Raises UsageError that calls it `name`."""
    real: Any = value if isinstance(value, numbers.Real) and not isinstance(value, bool) else None
    if real is None or not least <= real <= most:
        raise UsageError(f"{name} must be a number between {least:g} and {most:g}, not {short(value)}.")
    return float(real)


def check_text(**texts: Any) -> None:
    """Raises UsageError where one of these arguments is no text."""
    for name, value in texts.items():
        if not isinstance(value, str):
            raise UsageError(f"{name} must be text, not {short(value)}.")


def check_function(name: str, value: Any) -> None:
    """Raises UsageError where it cannot be called."""
    if not callable(value):
        raise UsageError(f"{name} must be a function, not {short(value)}.")


def frame_size(frame_hw: Any) -> tuple[int, int]:
    """Height and width of a frame, as ints. Raises DataError."""
    sides = tuple(frame_hw) if isinstance(frame_hw, (tuple, list)) else ()
    if len(sides) != 2 or not all(_is_whole(side) and 0 < side <= LONGEST_SIDE for side in sides):
        raise DataError(
            f"frame_hw must be height and width in whole pixels, as (480, 640), both from 1 to {LONGEST_SIDE}, not "
            f"{short(frame_hw)}."
        )
    return int(sides[0]), int(sides[1])


def whole_offset(offset_xy: Any) -> tuple[int, int]:
    """Pixels to the right and down, as ints; floats that are whole are taken. Raises UsageError."""
    steps = list(offset_xy) if isinstance(offset_xy, (tuple, list, np.ndarray)) else []
    if len(steps) != 2 or not all(_is_step(step) for step in steps):
        raise UsageError(
            f"Instances move by whole pixels, two of them, as (600, 200), not by {short(offset_xy)}: round the offset."
        )
    return int(steps[0]), int(steps[1])


def places(keep: Any, count: int) -> NDArray[np.intp]:
    """What numpy takes as an index of `count` things -> their places: one, several, a slice, or a boolean of each.

    Raises UsageError.

    >>> places([True, False, True], 3).tolist(), places(-1, 3).tolist(), places(slice(2), 3).tolist()
    ([0, 2], [2], [0, 1])
    """
    try:
        given = np.arange(count)[keep] if isinstance(keep, slice) else np.asarray(keep)
    except (TypeError, ValueError):
        given = np.array(None)
    if given.shape == (0,) and given.dtype != np.bool_:
        return np.zeros(0, np.intp)
    if given.dtype == np.bool_ and given.ndim == 1:
        if len(given) != count:
            raise UsageError(f"{count} instances need {count} booleans to choose from them, not {len(given)}.")
        return np.flatnonzero(given)
    if given.ndim > 1 or given.dtype.kind not in "iu":
        raise UsageError(
            f"Instances are chosen by places, a slice, or one boolean for each of the {count}, not by {short(keep)}."
        )
    given = np.atleast_1d(given)
    outside = given[(given < -count) | (given >= count)]
    if len(outside):
        raise UsageError(f"There is no instance {outside[0]}: there are {count}, counted from 0.")
    return given.astype(np.intp) % max(count, 1)


def place(index: Any, count: int) -> int:
    """One place in a list of `count`; a negative one counts from the end, as in Python. Raises UsageError."""
    if not _is_whole(index):
        raise UsageError(f"A mask is named by its place, a whole number, not by {short(index)}.")
    return int(places(index, count)[0])


def check_array(name: str, array: Any, kinds: str, shape: tuple[int, ...]) -> None:
    """Raises DataError where it is no array of these kinds of numpy's dtypes and this shape, or is not all finite."""
    if not isinstance(array, np.ndarray):
        raise DataError(f"{name} must be an array of numpy, not {type(array).__name__}: give it by np.array(...).")
    if array.shape != shape or array.dtype.kind not in kinds:
        words = "whole numbers" if "f" not in kinds else "float32"
        raise DataError(f"{name} must be {words} {list(shape)}, not {array.dtype} {list(array.shape)}.")
    if "f" in kinds and not np.isfinite(array).all():
        raise DataError(f"{name} must be finite numbers, but some are NaN or infinite: leave those instances out.")


def parts_of(what: type, given: Any) -> list[Any]:
    """The parts that are to be joined, as a list, of any iterable of them. Raises UsageError."""
    parts = list(given) if isinstance(given, Iterable) and not isinstance(given, what) else [None]
    for part in parts:
        if not isinstance(part, what):
            wrong = given if parts == [None] else part
            raise UsageError(f"A list of {what.__name__} is joined, not {type(wrong).__name__}: give [one, other].")
    if not parts:
        raise UsageError(f"No {what.__name__} were given to concatenate: give at least one part.")
    return parts


def path_of(path: Any, what: str) -> Path:
    """The Path of what a caller named, in text or as an os.PathLike. Raises UsageError that calls it `what`."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise UsageError(f"{what} is named by its path, not by {type(path).__name__}.")
    if not text or "\0" in text:
        raise UsageError(f"{what} is named by its path, not by {'nothing' if not text else 'text with a NUL in it'}.")
    return Path(text)


def check_flags(**flags: Any) -> None:
    """Raises UsageError where one of these arguments is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise UsageError(f"{name} must be True or False, not {short(value)}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))


def _is_step(value: Any) -> bool:
    number = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    return number and abs(value) <= LONGEST_SIDE and value == int(value)

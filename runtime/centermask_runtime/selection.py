# SPDX-License-Identifier: Apache-2.0
"""Which detections are kept: thresholds, number and classes, checked once and used by every pipeline.

The only place where a user's words for them (conf, mask_threshold, max_det, classes) become numbers.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from centermask_runtime.arguments import number, short, whole
from centermask_runtime.errors import UsageError, did_you_mean
from centermask_runtime.spec import ModelSpec


class SelectionWords(TypedDict, total=False):
    """The keyword arguments of Selection.of, for functions that hand them on."""

    conf: float | None
    mask_threshold: float | None
    max_det: int | None
    classes: str | int | Iterable[str | int] | None


@dataclass(frozen=True)
class Selection:
    """What is kept of what a network found."""

    score_threshold: float  # an object is kept from this score on
    mask_threshold: float  # a pixel belongs to a mask from this probability on
    max_detections: int  # per frame, the best ones
    classes: tuple[int, ...] | None  # labels to keep, None for all

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        *,
        conf: float | None = None,
        mask_threshold: float | None = None,
        max_det: int | None = None,
        classes: str | int | Iterable[str | int] | None = None,
    ) -> Selection:
        """What is None comes from the spec.

        conf: lowest score, 0 to 1. mask_threshold: lowest probability of a mask's pixel, 0 to 1. max_det: most objects
        per frame. classes: one or several names or labels; digits as text are a label unless a class is called so.
        Raises UsageError.

            Selection.of(spec, conf=0.5, classes=["cat", 2])
        """
        return cls(
            spec.score_threshold if conf is None else number("conf", conf, 0, 1),
            spec.mask_threshold if mask_threshold is None else number("mask_threshold", mask_threshold, 0, 1),
            spec.max_detections if max_det is None else whole("max_det", max_det, 1),
            None if classes is None else _labels(classes, spec.class_names),
        )


def _labels(classes: Any, class_names: tuple[str, ...]) -> tuple[int, ...]:
    if isinstance(classes, np.ndarray):
        classes = classes.ravel().tolist()
    one = isinstance(classes, (str, bytes, numbers.Integral)) or not isinstance(classes, Iterable)
    labels = dict.fromkeys(_label(name, class_names) for name in ((classes,) if one else classes))
    if not labels:
        raise UsageError("classes is empty, so nothing would be found: name at least one class, or leave it out.")
    return tuple(labels)


def _label(name: Any, class_names: tuple[str, ...]) -> int:
    if isinstance(name, str) and name in class_names:
        return class_names.index(name)
    digits = isinstance(name, str) and name.isascii() and name.isdigit()
    if isinstance(name, str) and not digits:
        raise UsageError(f"The model has no class '{name}'; {did_you_mean(name, class_names)}")
    if not digits and (not isinstance(name, numbers.Integral) or isinstance(name, bool)):
        raise UsageError(f"classes must be names or labels of classes, not {short(name)}.")
    label = int(name)
    if not 0 <= label < len(class_names):
        raise UsageError(f"The model has no class number {short(label)}; it has 0 to {len(class_names) - 1}.")
    return label

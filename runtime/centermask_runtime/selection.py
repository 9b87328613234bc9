# SPDX-License-Identifier: Apache-2.0
"""Which detections are kept: thresholds, number and classes, checked once and used by every pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from centermask_runtime.errors import UsageError, did_you_mean
from centermask_runtime.spec import ModelSpec


@dataclass(frozen=True)
class Selection:
    score_threshold: float
    mask_threshold: float
    max_detections: int
    classes: tuple[int, ...] | None  # labels to keep, None for all

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        *,
        score_threshold: float | None = None,
        mask_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> Selection:
        """What is None comes from the spec. `classes` are names or labels. Raises UsageError."""
        most = spec.max_detections if max_detections is None else max_detections
        if most < 1:
            raise UsageError(f"The largest number of detections must be at least 1, not {most}.")
        return cls(
            _part("score", spec.score_threshold if score_threshold is None else score_threshold),
            _part("mask", spec.mask_threshold if mask_threshold is None else mask_threshold),
            most,
            None if classes is None else tuple(_label(name, spec.class_names) for name in classes),
        )


def _part(what: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UsageError(f"The {what} threshold must lie between 0 and 1, not {value}.")
    return value


def _label(name: str | int, class_names: tuple[str, ...]) -> int:
    if isinstance(name, str):
        if name not in class_names:
            raise UsageError(f"The model has no class '{name}'; {did_you_mean(name, class_names)}")
        return class_names.index(name)
    if not 0 <= name < len(class_names):
        raise UsageError(f"The model has no class number {name}; it has 0 to {len(class_names) - 1}.")
    return name

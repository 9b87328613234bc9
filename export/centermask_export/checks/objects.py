# SPDX-License-Identifier: Apache-2.0
"""Two artefacts on the same frames: how far apart are their outputs, and how far apart is what a user sees?

Outputs are compared as outputs.py does: detections matched as sets, differences in the network's own units. Objects are
what the pipeline makes of them at the score threshold: matched by class and box, best first, and compared by score, box
and mask. An object that only one side has counts with how far its score lies above the cut, because a score next to the
threshold falls on either side of it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_export.checks.outputs import match_detections
from centermask_runtime.errors import UsageError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.instances import Instances
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.pipeline.cpu import Pipeline, postprocess
from centermask_runtime.reference.overlap import box_iou, pair_mask_iou
from centermask_runtime.spec import ModelSpec

SAME_OBJECT = 0.5  # box IoU
PER_DETECTION = ("scores", "boxes", "shapes")


@dataclass(frozen=True)
class Limits:
    """What two artefacts may differ by; None is not looked at."""

    score: float | None = None
    box: float | None = None  # source pixels
    mask_iou: float | None = None  # the least
    unmatched: int | None = None  # objects that only one side has; 0 where any other limit is set

    @property
    def asked(self) -> bool:
        return any(limit is not None for limit in (self.score, self.box, self.mask_iou, self.unmatched))


@dataclass(frozen=True)
class Pair:
    """One object that both sides have: rows of each, and how they differ."""

    row_a: int
    row_b: int
    score: float  # absolute difference
    box: float  # largest edge difference, source pixels
    mask_iou: float  # 1 where both masks are empty


@dataclass(frozen=True)
class FrameDifference:
    pairs: tuple[Pair, ...]
    only_a: tuple[int, ...]  # rows
    only_b: tuple[int, ...]
    margins: tuple[float, ...]  # of the objects of only_a and only_b: score minus the cut


@dataclass
class Comparison:
    """Differences over all frames so far."""

    names: tuple[str, str]
    score_threshold: float
    skipped: tuple[str, ...] = ()  # outputs of unequal size, which cannot be compared
    frames: int = 0
    objects: list[int] = field(default_factory=lambda: [0, 0])
    matched_detections: int = 0
    unmatched_detections: int = 0  # beyond ties at the cut
    pairs: list[Pair] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    outputs: dict[str, list[float]] = field(default_factory=dict)  # largest difference in each frame

    @classmethod
    def of(cls, a: Pipeline, b: Pipeline, names: tuple[str, str] = ("A", "B")) -> Comparison:
        """A comparison of no frame yet, at the score threshold of `a`. Raises UsageError when the classes differ."""
        return cls(names, a.selection.score_threshold, _unequal(a.spec, b.spec))

    def add(self, a: Pipeline, b: Pipeline, frame: NDArray[np.uint8]) -> tuple[Instances, Instances, FrameDifference]:
        """Runs both on a frame [H, W, 3] BGR; gives what both found. Each uses its own mask threshold."""
        (outputs_a, box_a), (outputs_b, box_b) = a.infer(frame), b.infer(frame)
        if box_a.input_hw == box_b.input_hw:
            self.add_outputs(outputs_a, outputs_b)
        found_a = _objects(a, outputs_a, box_a, self.score_threshold)
        found_b = _objects(b, outputs_b, box_b, self.score_threshold)
        most = min(a.spec.max_detections, b.spec.max_detections)
        difference = match_objects(found_a, found_b, self.score_threshold, most)
        self.add_objects(difference)
        return found_a, found_b, difference

    def add_outputs(self, a: PeakOutputs, b: PeakOutputs) -> None:
        rows, alone = match_detections(a, b, 0)
        self.matched_detections += len(rows)
        self.unmatched_detections += alone
        for name in PER_DETECTION:
            if name not in self.skipped:
                one, other = getattr(a, name)[0][rows[:, 0]], getattr(b, name)[0][rows[:, 1]]
                self.outputs.setdefault(name, []).append(_largest(one, other))
        if "saliency" not in self.skipped:
            self.outputs.setdefault("saliency", []).append(_largest(a.saliency, b.saliency))

    def add_objects(self, difference: FrameDifference) -> None:
        self.frames += 1
        self.objects[0] += len(difference.pairs) + len(difference.only_a)
        self.objects[1] += len(difference.pairs) + len(difference.only_b)
        self.pairs += difference.pairs
        self.margins += difference.margins

    def unmatched(self, score_limit: float | None) -> int:
        """Objects that only one side has, without those whose score is nearer to the cut than scores may differ."""
        return sum(margin > (score_limit or 0) for margin in self.margins)

    def failures(self, limits: Limits) -> list[str]:
        """What goes beyond the limits, in words; nothing to compare is a failure too."""
        if not limits.asked:
            return []
        found = []
        if not self.pairs:
            found.append("no object was found by both")
        worst = self.summary()
        if limits.score is not None and worst["score"]["largest"] > limits.score:
            found.append(f"scores by {worst['score']['largest']:.3g} (allowed {limits.score:g})")
        if limits.box is not None and worst["box"]["largest"] > limits.box:
            found.append(f"boxes by {worst['box']['largest']:.3g} pixels (allowed {limits.box:g})")
        if limits.mask_iou is not None and worst["mask_iou"]["smallest"] < limits.mask_iou:
            found.append(f"masks down to an IoU of {worst['mask_iou']['smallest']:.3f} (allowed {limits.mask_iou:g})")
        alone = self.unmatched(limits.score)
        if alone > (limits.unmatched or 0):
            found.append(f"{alone} objects that only one of them has (allowed {limits.unmatched or 0})")
        return found

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean and worst of the objects that both have; NaN where there is none."""
        nan = math.nan
        scores, boxes, ious = (np.array([getattr(p, n) for p in self.pairs]) for n in ("score", "box", "mask_iou"))
        if not self.pairs:
            return {name: {"mean": nan, end: nan} for name, end in _ENDS.items()}
        return {
            "score": {"mean": float(scores.mean()), "largest": float(scores.max())},
            "box": {"mean": float(boxes.mean()), "largest": float(boxes.max())},
            "mask_iou": {"mean": float(ious.mean()), "smallest": float(ious.min())},
        }

    def to_dict(self) -> dict[str, Any]:
        numbers = {
            name: {end: value if math.isfinite(value) else None for end, value in values.items()}
            for name, values in self.summary().items()
        }
        return {
            "a": self.names[0], "b": self.names[1], "frames": self.frames, "score_threshold": self.score_threshold,
            "objects": list(self.objects), "matched": len(self.pairs), "unmatched": len(self.margins),
            "largest_unmatched_margin": max(self.margins, default=0.0), **numbers,
            "outputs": {name: max(values, default=0.0) for name, values in self.outputs.items()},
            "outputs_skipped": list(self.skipped), "matched_detections": self.matched_detections,
            "unmatched_detections": self.unmatched_detections,
        }  # fmt: skip


_ENDS = {"score": "largest", "box": "largest", "mask_iou": "smallest"}


def match_objects(a: Instances, b: Instances, threshold: float, most: int) -> FrameDifference:
    """Best scores of `a` choose first: the free object of the same class with the largest box IoU, at least 0.5.

    most: K. What one side has alone, the other may have cut off: at the threshold, or where it is full at its last one.
    """
    cut_a, cut_b = (max(threshold, float(side.scores[-1])) if len(side) >= most else threshold for side in (a, b))
    overlap = box_iou(a.boxes, b.boxes) * (a.labels[:, None] == b.labels[None, :])
    free = np.ones(len(b), bool)
    pairs: list[Pair] = []
    for row in range(len(a)):
        column = int(np.argmax(overlap[row] * free)) if len(b) else 0
        if len(b) and free[column] and overlap[row, column] >= SAME_OBJECT:
            free[column] = False
            score = abs(float(a.scores[row]) - float(b.scores[column]))
            box = float(np.abs(a.boxes[row] - b.boxes[column]).max())
            pairs.append(Pair(row, column, score, box, pair_mask_iou(a.masks, row, b.masks, column)))
    taken = {pair.row_a for pair in pairs}
    only_a = tuple(row for row in range(len(a)) if row not in taken)
    only_b = tuple(int(row) for row in np.flatnonzero(free))
    margins = [float(a.scores[row]) - cut_b for row in only_a] + [float(b.scores[row]) - cut_a for row in only_b]
    return FrameDifference(tuple(pairs), only_a, only_b, tuple(margins))


def _objects(pipeline: Pipeline, outputs: PeakOutputs, letterbox: Letterbox, score_threshold: float) -> Instances:
    selection = dataclasses.replace(pipeline.selection, score_threshold=score_threshold)
    return postprocess(outputs, 0, letterbox, pipeline.spec, selection)


def _largest(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(a.astype(np.float64) - b).max(initial=0))


def _unequal(a: ModelSpec, b: ModelSpec) -> tuple[str, ...]:
    """Outputs that cannot be compared number by number."""
    if a.class_names != b.class_names:
        raise UsageError(
            f"'{a.name}' knows {len(a.class_names)} classes and '{b.name}' others or in another order: compare models "
            "of the same classes."
        )
    if a.input_hw != b.input_hw:
        return (*PER_DETECTION, "saliency")
    shapes = ("shapes",) if a.shape_size != b.shape_size else ()
    return shapes if a.saliency_channels == b.saliency_channels else (*shapes, "saliency")

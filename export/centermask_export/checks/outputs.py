# SPDX-License-Identifier: Apache-2.0
"""Does an artefact give what its source gives? Outputs of two networks on the same real images, compared as sets.

Detections are matched, not compared row by row: equal scores may come in another order. A detection without a partner
is forgiven at the cut: its score must be within the tolerance of the last one that either network kept. Rounded
precisions move faint peaks by a cell; for them a share of the detections may stay alone (Bounds).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_export.batches import batches
from centermask_export.checks import CheckError
from centermask_runtime.networks.network import Network, PeakOutputs

# fp32 back ends sum in different orders: 2e-4 on logits of +-6 is usual, while a wrong graph shows more than 0.1
TOLERANCES = {"scores": 1e-3, "boxes": 0.05, "shapes": 5e-3, "saliency": 5e-3}  # boxes in input pixels, maps in logits
SAME_BOX = 1.0  # input pixels: farther apart, two boxes are not one detection


@dataclass(frozen=True)
class Bounds:
    """What an artefact may differ by from fp32 weights."""

    tolerances: dict[str, float]  # names as TOLERANCES
    of_mean: bool = False  # the tolerances bound the mean difference, not the largest
    same_box: float = SAME_BOX
    confident: float = 0.0  # scores below this may stay alone: no user sees them
    alone: float = 0.0  # share of the detections that may have no partner


# Measured on the released model: fp16 differs by 3e-4, 0.04, 0.08, 0.014 at most and 0.7 % stay alone; int8 by 0.007,
# 0.2, 0.3, 0.35 on average, with single logits 20 apart, and its AP is the same. Wrong graphs are off by far more.
LOOSER = {
    "fp16": Bounds({"scores": 0.01, "boxes": 0.5, "shapes": 0.5, "saliency": 0.25}, alone=0.03),
    "bf16": Bounds({"scores": 0.01, "boxes": 1.0, "shapes": 0.5, "saliency": 0.25}, True, 8.0, 0.25, 0.1),
    "int8": Bounds({"scores": 0.04, "boxes": 2.0, "shapes": 1.5, "saliency": 1.5}, True, 8.0, 0.25, 0.2),
}


def bounds_of(precision: str) -> Bounds:
    return LOOSER.get(precision) or Bounds(TOLERANCES)


@dataclass(frozen=True)
class OutputDifference:
    name: str
    largest: float
    mean: float
    tolerance: float
    of_mean: bool = False

    @property
    def ok(self) -> bool:
        return self.measured <= self.tolerance  # a NaN is no yes

    @property
    def measured(self) -> float:
        """What the tolerance bounds."""
        return self.mean if self.of_mean else self.largest


@dataclass(frozen=True)
class OutputsReport:
    images: int
    matched: int
    unmatched: int  # beyond ties at the cut
    outputs: tuple[OutputDifference, ...]
    alone: float = 0.0  # share of the detections of both that may be unmatched
    artefact: str = "ONNX Runtime"  # what ran it, for people
    source: str = "PyTorch"  # what it was compared with, for people

    @property
    def ok(self) -> bool:
        return self.enough_matched and self.matched > 0 and all(output.ok for output in self.outputs)

    @property
    def enough_matched(self) -> bool:
        return self.unmatched <= self.alone * (2 * self.matched + self.unmatched)

    def require(self, artefact: Path) -> None:
        """Raises CheckError unless everything agrees."""
        if self.ok:
            return
        worst = [
            f"{o.name} by {o.measured:.3g}{' on average' if o.of_mean else ''} (allowed {o.tolerance:g})"
            for o in self.outputs
            if not o.ok
        ]
        if not self.enough_matched:
            worst.append(f"{self.unmatched} detections that only one of them has")
        raise CheckError(
            f"The export to {artefact} does not give what its source gives on {self.images} images: it differs in "
            f"{', '.join(worst) or 'finding nothing to compare'}; nothing was written.",
            self,
        )


def compare_networks(
    expected: Network,
    actual: Network,
    frames: Iterable[NDArray[np.uint8]],
    batch: int = 1,
    bounds: Bounds | None = None,
) -> OutputsReport:
    """Runs both networks on frames uint8 [H, W, 3] BGR of any size, `batch` at a time; the last one fills the rest.

    bounds: None are those of the precision in the spec of `actual`.
    """
    bounds = bounds or bounds_of(actual.spec.precision)
    differences: dict[str, list[NDArray[np.float64]]] = {name: [] for name in TOLERANCES}
    images = matched = unmatched = 0
    for inputs in batches(frames, expected.spec.input_hw, batch):
        one, other = expected.run(inputs), actual.run(inputs)
        for index in range(batch):
            pairs, lonely = match_detections(one, other, index, bounds)
            matched, unmatched = matched + len(pairs), unmatched + lonely
            for name in ("scores", "boxes", "shapes"):
                a, b = getattr(one, name)[index][pairs[:, 0]], getattr(other, name)[index][pairs[:, 1]]
                differences[name].append(np.abs(a.astype(np.float64) - b).ravel())
        images += batch
        differences["saliency"].append(np.abs(one.saliency.astype(np.float64) - other.saliency).ravel())
    joined = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in differences.items()}
    return OutputsReport(
        images, matched, unmatched,
        tuple(
            OutputDifference(
                name, float(d.max(initial=0)), float(d.mean()) if d.size else 0.0,
                bounds.tolerances[name], bounds.of_mean,
            )
            for name, d in joined.items()
        ),
        bounds.alone, actual.description,
    )  # fmt: skip


def match_detections(
    one: PeakOutputs, other: PeakOutputs, index: int, bounds: Bounds | None = None
) -> tuple[NDArray[np.intp], int]:
    """Pairs [n, 2] of rows of image `index` that are the same detection, and how many rows stay alone.

    bounds: None are those of fp32. Rows of score 0 are fill and take no part. Best scores choose first, the nearest box
    of the same label.
    """
    bounds = bounds or bounds_of("fp32")
    rows = np.flatnonzero(one.scores[index] > 0)
    free = list(np.flatnonzero(other.scores[index] > 0))
    pairs: list[tuple[int, int]] = []
    alone: list[float] = []
    for row in rows:
        candidates = [column for column in free if other.labels[index, column] == one.labels[index, row]]
        apart = np.abs(other.boxes[index, candidates] - one.boxes[index, row])  # [candidates, 4]
        distances = apart.max(axis=1, initial=0)
        if candidates and distances.min() <= bounds.same_box:
            partner = candidates[int(distances.argmin())]
            free.remove(partner)
            pairs.append((int(row), int(partner)))
        else:
            alone.append(float(one.scores[index, row]))
    alone += [float(other.scores[index, column]) for column in free]
    cut = max(_last_score(one, index), _last_score(other, index)) + bounds.tolerances["scores"]
    lonely = sum(score > max(cut, bounds.confident) for score in alone)
    return np.array(pairs, np.intp).reshape(-1, 2), lonely


def _last_score(outputs: PeakOutputs, index: int) -> float:
    """Score of the K-th detection: what lies above it by more than a tie must be found by both."""
    return float(outputs.scores[index].min())

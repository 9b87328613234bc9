# SPDX-License-Identifier: Apache-2.0
"""Does an artefact give what its source gives? Outputs of two networks on the same real images, compared as sets.

Detections are matched, not compared row by row: equal scores may come in another order. A detection without a partner is
forgiven only at the cut: its score must be within the tolerance of the last one that the other network kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.geometry import Letterbox
from centermask_runtime.networks.network import Network, PeakOutputs
from centermask_runtime.reference import preprocess

# fp32 back ends sum in different orders: differences of 2e-4 on logits of +-6 are usual, a wrong graph shows ones above 0.1
TOLERANCES = {"scores": 1e-3, "boxes": 0.05, "shapes": 5e-3, "saliency": 5e-3}  # boxes in input pixels, maps in logits
SAME_BOX = 1.0  # input pixels: farther apart, two boxes are not one detection


@dataclass(frozen=True)
class OutputParity:
    name: str
    largest: float
    mean: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.largest <= self.tolerance


@dataclass(frozen=True)
class ParityReport:
    images: int
    matched: int
    unmatched: int  # beyond ties at the cut
    outputs: tuple[OutputParity, ...]

    @property
    def ok(self) -> bool:
        return self.unmatched == 0 and self.matched > 0 and all(output.ok for output in self.outputs)


def compare_networks(expected: Network, actual: Network, frames: Iterable[NDArray[np.uint8]]) -> ParityReport:
    """Runs both networks on frames uint8 [H, W, 3] BGR of any size, one at a time."""
    differences: dict[str, list[NDArray[np.float64]]] = {name: [] for name in TOLERANCES}
    images = matched = unmatched = 0
    for frame in frames:
        letterbox = Letterbox.fit((frame.shape[0], frame.shape[1]), expected.spec.input_hw)
        batch = preprocess.letterbox(frame, letterbox)[None]
        one, other = expected.run(batch), actual.run(batch)
        pairs, lonely = match_detections(one, other)
        images, matched, unmatched = images + 1, matched + len(pairs), unmatched + lonely
        for name in ("scores", "boxes", "shapes"):
            a, b = getattr(one, name)[0][pairs[:, 0]], getattr(other, name)[0][pairs[:, 1]]
            differences[name].append(np.abs(a.astype(np.float64) - b).ravel())
        differences["saliency"].append(np.abs(one.saliency[0].astype(np.float64) - other.saliency[0]).ravel())
    joined = {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in differences.items()}
    return ParityReport(
        images, matched, unmatched,
        tuple(
            OutputParity(name, float(d.max(initial=0)), float(d.mean()) if d.size else 0.0, TOLERANCES[name])
            for name, d in joined.items()
        ),
    )  # fmt: skip


def match_detections(one: PeakOutputs, other: PeakOutputs) -> tuple[NDArray[np.intp], int]:
    """Pairs [n, 2] of rows of the first image that are the same detection, and how many rows stay alone.

    Rows of score 0 are fill and take no part. Best scores choose first, the nearest box of the same label.
    """
    rows = np.flatnonzero(one.scores[0] > 0)
    free = list(np.flatnonzero(other.scores[0] > 0))
    pairs: list[tuple[int, int]] = []
    alone: list[float] = []
    for row in rows:
        candidates = [column for column in free if other.labels[0, column] == one.labels[0, row]]
        distances = np.abs(other.boxes[0, candidates] - one.boxes[0, row]).max(axis=-1) if candidates else np.zeros(0)
        if candidates and distances.min() <= SAME_BOX:
            partner = candidates[int(distances.argmin())]
            free.remove(partner)
            pairs.append((int(row), int(partner)))
        else:
            alone.append(float(one.scores[0, row]))
    alone += [float(other.scores[0, column]) for column in free]
    cut = max(_last_score(one), _last_score(other))
    lonely = sum(score > cut + TOLERANCES["scores"] for score in alone)
    return np.array(pairs, np.intp).reshape(-1, 2), lonely


def _last_score(outputs: PeakOutputs) -> float:
    """Score of the K-th detection: what lies above it by more than a tie must be found by both."""
    return float(outputs.scores[0].min())

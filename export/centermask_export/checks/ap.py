# SPDX-License-Identifier: Apache-2.0
"""The accuracy gate: AP of an artefact against AP of the weights that it came from, on the same data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centermask.data.dataset import Dataset
from centermask.evaluation.coco_ap import Metrics
from centermask.evaluation.evaluate import evaluate
from centermask_export.checks import MAX_AP_DROP, CheckError
from centermask_runtime.errors import UsageError
from centermask_runtime.networks.network import Network
from centermask_runtime.progress import Progress, silent

KINDS = {"bbox": "box", "segm": "mask"}


@dataclass(frozen=True)
class ApReport:
    """AP of the weights (`expected`) and of the artefact (`actual`); a drop is positive where the artefact is worse."""

    images: int
    expected: Metrics
    actual: Metrics
    max_ap_drop: float

    @property
    def drops(self) -> dict[str, float]:
        """{"bbox": ..., "segm": ...} of AP, the mean over IoU 0.5 to 0.95."""
        return {kind: self.expected[kind]["AP"] - self.actual[kind]["AP"] for kind in KINDS}

    @property
    def ok(self) -> bool:
        return all(drop <= self.max_ap_drop for drop in self.drops.values())  # a NaN is no yes

    def require(self, artefact: Path) -> None:
        """Raises CheckError where box or mask AP fell by more than allowed."""
        if self.ok:
            return
        fell = ", ".join(
            f"{KINDS[kind]} AP is {self.actual[kind]['AP']:.4f} where its source has {self.expected[kind]['AP']:.4f}"
            for kind, drop in self.drops.items()
            if not drop <= self.max_ap_drop
        )
        raise CheckError(
            f"The accuracy of {artefact} fell on {self.images} images: {fell} (allowed: {self.max_ap_drop:g} less); "
            "choose a higher precision, more calibration images, or a larger max_ap_drop.",
            self,
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "images": self.images, "expected": self.expected, "actual": self.actual, "drops": self.drops,
            "max_ap_drop": self.max_ap_drop, "ok": self.ok,
        }  # fmt: skip


def compare_ap(
    expected: Network,
    actual: Network,
    dataset: Dataset,
    *,
    max_ap_drop: float = MAX_AP_DROP,
    progress: Progress = silent,
) -> ApReport:
    """Box and mask AP of both networks on all images of the data set. Raises UsageError and DataError.

    The report's `require` is the gate.
    """
    if not 0 <= max_ap_drop <= 1:
        raise UsageError(f"max_ap_drop must lie between 0 and 1, not {max_ap_drop:g}.")
    metrics = [evaluate(network, dataset, progress=progress).metrics for network in (expected, actual)]
    return ApReport(len(dataset), metrics[0], metrics[1], max_ap_drop)

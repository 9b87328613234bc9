# SPDX-License-Identifier: Apache-2.0
"""Whether an artefact says the same as what it was made from. From the network outwards, in the order of an export:

outputs          what the network itself gives on real images: detections, matched as sets
dense_outputs    the same of graph level `heads`: maps, cell by cell
ap               box and mask AP on a data set, where one is given
comparison       the images and the device of all comparisons
against_weights  runs these in turn for an artefact and the weights it came from
objects          what a user sees, of any two artefacts: `centermask compare`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_runtime.errors import ExportError
from centermask_runtime.progress import Progress, silent

if TYPE_CHECKING:
    from centermask.data.dataset import Dataset
    from centermask_export.checks.ap import ApReport
    from centermask_export.checks.outputs import OutputsReport

MAX_AP_DROP = 0.005


@dataclass(frozen=True)
class Checks:
    """What an artefact is compared on."""

    source: Path | None = None  # images for the outputs; None: two that ship
    dataset: Dataset | None = None  # for AP; None: not measured
    max_ap_drop: float = MAX_AP_DROP
    progress: Progress = silent


class CheckError(ExportError):
    """An artefact that is not as good as its source, with the numbers."""

    def __init__(self, sentence: str, report: OutputsReport | ApReport) -> None:
        super().__init__(sentence)
        self.report = report

# SPDX-License-Identifier: Apache-2.0
"""Whether an artefact says the same as what it was made from. From the network outwards, in the order of an export:

outputs          what the network itself gives on real images: detections, matched as sets
dense_outputs    the same of graph level `heads`: maps, cell by cell
ap               box and mask AP on a data set, where one is given
against_weights  runs these in turn for an artefact and the weights it came from
objects          what a user sees, of any two artefacts: `centermask compare`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from centermask_runtime.errors import ExportError

if TYPE_CHECKING:
    from centermask_export.checks.ap import ApReport
    from centermask_export.checks.outputs import OutputsReport


class CheckError(ExportError):
    """An artefact that is not as good as its source, with the numbers."""

    def __init__(self, sentence: str, report: OutputsReport | ApReport) -> None:
        super().__init__(sentence)
        self.report = report

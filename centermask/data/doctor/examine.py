# SPDX-License-Identifier: Apache-2.0
"""examine: everything the doctor looks at, in its order, for all splits of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from centermask.data.doctor.entries import SplitEntries, examine_entries
from centermask.data.doctor.files import Print, examine_files
from centermask.data.doctor.findings import Findings
from centermask.data.doctor.masks import examine_masks
from centermask.data.doctor.splits import compare_classes, find_leakage
from centermask.data.formats.layouts import Split
from centermask_runtime.progress import Progress, silent


@dataclass(frozen=True)
class Report:
    findings: Findings
    images: dict[str, int]  # of each split
    objects: dict[str, Counter[str]]  # split -> class -> objects, without crowds


def examine(splits: Sequence[Split], progress: Progress = silent) -> Report:
    """Looks for all of findings.KINDS in the splits. Raises DataError where not even a list of images can be read.

    A split without errors among its findings is one that load_dataset takes: both go by the rules of data/checks.py.
    """
    findings = Findings()
    examined: list[SplitEntries] = []
    prints: dict[str, list[Print]] = {}
    for split in splits:
        one = examine_entries(split.name, split.read(findings.of_split(split.name)), findings)
        ids = list(one.entries.images)
        for index in progress(iter(range(len(ids))), len(ids), f"{split.name} masks"):
            examine_masks(one, ids[index], findings)
        prints[split.name] = examine_files(one, split.images, findings, progress)
        examined.append(one)
    find_leakage(prints, findings)
    objects = compare_classes(examined, findings)
    return Report(findings, {one.name: len(one.entries.images) for one in examined}, objects)

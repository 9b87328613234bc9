# SPDX-License-Identifier: Apache-2.0
"""examine: everything the doctor looks at, in its order, for all splits of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centermask.data.coco import load_coco, read_content
from centermask.data.doctor.entries import Entries, check_entries
from centermask.data.doctor.files import Print, Progress, check_files
from centermask.data.doctor.findings import Findings, Severity
from centermask.data.doctor.masks import check_masks
from centermask.data.doctor.splits import check_classes, check_leakage
from centermask.data.formats.layouts import Places
from centermask.data.formats.yolo_seg import read_yolo
from centermask_runtime.errors import DataError


@dataclass(frozen=True)
class Report:
    findings: Findings
    images: dict[str, int]  # of each split
    objects: dict[str, Counter[str]]  # split -> class -> objects, without crowds


def _silent(indices: Iterator[int], count: int, title: str) -> Iterator[int]:
    return indices


def examine(splits: Mapping[str, Places], progress: Progress = _silent) -> Report:
    """Looks for all of findings.KINDS in the splits. Raises DataError where not even a list of images can be read."""
    findings = Findings()
    entries: list[Entries] = []
    prints: dict[str, list[Print]] = {}
    for split, (annotation_file, images) in splits.items():
        content = _content(split, annotation_file, images, findings)
        one = check_entries(split, content, findings)
        ids = list(one.images)
        for index in progress(iter(range(len(ids))), len(ids), f"{split} masks"):
            check_masks(one, ids[index], findings)
        prints[split] = check_files(one, images, findings, progress)
        entries.append(one)
    check_leakage(prints, findings)
    objects = check_classes(entries, findings)
    if not findings.count(Severity.ERROR):  # then training must take it: the doctor never promises too much
        for split, places in splits.items():
            try:
                load_coco(*places)
            except DataError as error:
                findings.add("refused", f"{split}: {error}")
    return Report(findings, {one.split: len(one.images) for one in entries}, objects)


def _content(split: str, annotation_file: Path, images: Path, findings: Findings) -> Mapping[str, Any]:
    if annotation_file.suffix in (".yaml", ".yml"):
        return read_yolo(annotation_file, images, lambda kind, error: findings.add(kind, f"{split}: {error}"))
    return read_content(annotation_file, images)

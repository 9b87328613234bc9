# SPDX-License-Identifier: Apache-2.0
"""Precision, recall and F1 as curves: of pycocotools' own matches, so they end where its AP and AR do.

Over recall: pycocotools' precision array, which is interpolated (the highest precision at this recall or above). Over
the score threshold: counts of the same matches at IoU 0.5, not interpolated. Crowds and what matches them are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO

from centermask.evaluation.coco_ap import run_cocoeval

Array = NDArray[np.float64]
SCORES = np.arange(1001) / 1000  # thresholds that are looked at


@dataclass(frozen=True)
class Curves:
    """The curves of one kind of result (bbox or segm), for the C classes that have objects.

    ious         float64 [T]         0.5, 0.55, ... 0.95
    recall       float64 [R]         0, 0.01, ... 1
    precision    float64 [T, R, C]   at a recall; 0 where it is not reached
    true         int64 [C, S]        objects found (IoU 0.5) at a score of at least SCORES
    false        int64 [C, S]        detections that are none
    objects      int64 [C]
    """

    kind: str
    class_names: tuple[str, ...]
    ious: Array
    recall: Array
    precision: Array
    true: NDArray[np.int64]
    false: NDArray[np.int64]
    objects: NDArray[np.int64]

    @cached_property
    def precision_at(self) -> Array:
        """The precision [C, S]; NaN where nothing scores so high."""
        counted = self.true + self.false
        return np.asarray(self.true / np.where(counted > 0, counted, np.nan))

    @cached_property
    def recall_at(self) -> Array:
        """The recall [C, S]."""
        return np.asarray(self.true / self.objects[:, None])

    @cached_property
    def f1_at(self) -> Array:
        """F1 [C, S]: 2 true / (2 true + false + missed)."""
        return np.asarray(2 * self.true / (self.true + self.false + self.objects[:, None]))

    @property
    def best(self) -> tuple[float, float]:
        """The score threshold of the highest F1, mean over classes, and that F1; the middle of equal ones."""
        mean = self.f1_at.mean(0)
        highest = np.flatnonzero(mean == mean.max())
        middle = int(highest[len(highest) // 2])
        return float(SCORES[middle]), float(mean[middle])


def curves(truth: COCO, results: list[dict[str, Any]], max_detections: int, kind: str) -> Curves:
    """Computes the curves of COCO results over all images of `truth`, which has an object that is no crowd."""
    evaluation = run_cocoeval(truth, results, kind, max_detections)
    names = {entry["id"]: str(entry.get("name", entry["id"])) for entry in truth.dataset["categories"]}
    category_ids, images = evaluation.params.catIds, len(evaluation.params.imgIds)
    precision: Array = evaluation.eval["precision"][:, :, :, 0, -1]  # [T, R, class]
    present = np.flatnonzero(precision[0, 0] > -1)
    assert present.size, "no object but crowds"
    counts = []
    for number in present.tolist():
        start = number * len(evaluation.params.areaRng) * images  # of this class and all sizes
        counts.append(_counts([one for one in evaluation.evalImgs[start : start + images] if one is not None]))
    true, false, objects = zip(*counts, strict=True)
    return Curves(
        kind,
        tuple(names[category_ids[number]] for number in present),
        np.asarray(evaluation.params.iouThrs, np.float64),
        np.asarray(evaluation.params.recThrs, np.float64),
        precision[:, :, present],
        np.array(true),
        np.array(false),
        np.array(objects),
    )


def _counts(images: list[dict[str, Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Returns the true and false detections [S] of one class at each threshold of SCORES, and its objects."""
    scores = np.concatenate([np.asarray(one["dtScores"], np.float64) for one in images])
    matched = np.concatenate([one["dtMatches"][0] > 0 for one in images])
    counted = np.concatenate([~one["dtIgnore"][0].astype(np.bool_) for one in images])
    objects = sum(int(np.count_nonzero(one["gtIgnore"] == 0)) for one in images)
    return _at_least(scores[matched & counted]), _at_least(scores[~matched & counted]), objects


def _at_least(scores: Array) -> NDArray[np.int64]:
    """Returns how many scores are at least each threshold [S]."""
    return (len(scores) - np.searchsorted(np.sort(scores), SCORES, side="left")).astype(np.int64)

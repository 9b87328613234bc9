# SPDX-License-Identifier: Apache-2.0
"""Curves: pycocotools' arrays, its recall at each threshold, and small cases by hand."""

from __future__ import annotations

import numpy as np
import pytest

from centermask.evaluation.coco_ap import coco_ap, run_cocoeval
from centermask.evaluation.curves import SCORES, Curves, curves
from tests.support.small_truth import K, result, truth_of


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_precision_over_recall_is_pycocotools_own(spoiled, kind):
    truth, found = spoiled
    mine = curves(truth, found, K, kind)
    evaluation = run_cocoeval(truth, found, kind, K)
    np.testing.assert_array_equal(mine.precision, evaluation.eval["precision"][:, :, :, 0, -1])
    ap = coco_ap(truth, found, K)[kind]
    assert 0.05 < ap["AP"] < 0.9
    assert mine.precision.mean() == pytest.approx(ap["AP"])
    assert mine.precision[0].mean() == pytest.approx(ap["AP50"])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_recall_at_a_threshold_is_pycocotools_recall_of_what_scores_so_high(spoiled, kind):
    truth, found = spoiled
    mine = curves(truth, found, K, kind)
    for number in (0, 300, 437, 500, 700, 850):
        kept = [one for one in found if one["score"] >= SCORES[number]]
        evaluation = run_cocoeval(truth, kept, kind, K)
        np.testing.assert_allclose(mine.recall_at[:, number], evaluation.eval["recall"][0, :, 0, -1])
        counts = [sum(one["category_id"] == category for one in kept) for category in (1, 2, 3)]
        np.testing.assert_array_equal((mine.true + mine.false)[:, number], counts)  # no crowd: each counts


def test_f1_is_the_harmonic_mean_and_the_best_threshold_has_the_highest(spoiled):
    mine = curves(*spoiled, K, "segm")
    precision, recall = mine.precision_at, mine.recall_at
    both = np.isfinite(precision) & (recall > 0)
    harmonic = 2 * precision[both] * recall[both] / (precision[both] + recall[both])
    np.testing.assert_allclose(mine.f1_at[both], harmonic)
    assert (mine.f1_at[~both] == 0).all()
    threshold, best = mine.best
    assert best == mine.f1_at.mean(0).max() == pytest.approx(mine.f1_at.mean(0)[round(threshold * 1000)])


def test_curves_by_hand(tmp_path):
    """Three cats; found at 0.9 and 0.5, nothing there at 0.7: P 1, 1/2, 2/3 and R 1/3, 1/3, 2/3 from the top."""
    cats = [(0, 3, (0, 0, 10, 10), 0), (0, 3, (20, 0, 10, 10), 0), (0, 3, (40, 0, 10, 10), 0)]
    found = [
        result(0, 3, (0, 0, 10, 10), 0.9),
        result(0, 3, (0, 20, 10, 10), 0.7),
        result(0, 3, (20, 0, 10, 10), 0.5),
    ]
    mine = curves(truth_of(tmp_path, cats), found, K, "segm")
    assert mine.class_names == ("cat",)  # there is no dog
    at = [950, 800, 700, 600, 500, 0]
    np.testing.assert_array_equal(mine.true[0, at], [0, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(mine.false[0, at], [0, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(mine.f1_at[0, at], [0, 0.5, 0.4, 0.4, 2 / 3, 2 / 3])
    threshold, best = mine.best
    assert best == pytest.approx(2 / 3) and 0 < threshold <= 0.5
    assert np.isnan(mine.precision_at[0, 950])


def test_crowds_count_neither_way(tmp_path):
    objects = [(0, 3, (0, 0, 10, 10), 0), (0, 3, (20, 0, 30, 30), 1)]
    found = [result(0, 3, (0, 0, 10, 10), 0.9), result(0, 3, (25, 5, 5, 5), 0.8), result(0, 3, (30, 10, 5, 5), 0.7)]
    mine = curves(truth_of(tmp_path, objects), found, K, "segm")
    assert mine.objects.tolist() == [1] and mine.true[0, 0] == 1 and mine.false[0, 0] == 0


def test_nothing_found_is_no_crash(tmp_path):
    mine = curves(truth_of(tmp_path, [(0, 3, (0, 0, 10, 10), 0)]), [], K, "segm")
    assert mine.best[1] == 0 and not mine.precision.any()


def test_the_middle_of_equal_thresholds_is_best():
    true = np.where((SCORES > 0.2) & (SCORES < 0.6), 3, 0)[None]
    one = Curves("segm", ("a",), np.array([0.5]), np.array([0.0]), np.ones((1, 1, 1)), true, 0 * true, np.array([3]))
    assert one.best == (pytest.approx(0.4, abs=0.002), 1.0)

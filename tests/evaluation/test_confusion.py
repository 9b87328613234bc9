# SPDX-License-Identifier: Apache-2.0
"""The confusion matrix: small cases by hand, sums of rows and columns, and a diagonal where results are perfect."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from centermask.evaluation.confusion import confusion_matrix, matrix_csv
from tests.support.small_truth import result, truth_of

CASE = [
    (0, 3, (0, 0, 10, 10), 0),  # found as a cat
    (0, 3, (20, 0, 10, 10), 0),  # taken for a dog
    (0, 7, (40, 0, 10, 10), 0),  # missed: its detection scores too low
    (1, 7, (0, 0, 10, 10), 0),  # found twice: the better overlap counts, the other is background
    (1, 7, (30, 10, 20, 20), 1),  # a crowd
]


FOUND = [
    result(0, 3, (0, 0, 10, 9), 0.9),
    result(0, 7, (21, 0, 10, 10), 0.8),
    result(0, 7, (40, 0, 10, 10), 0.2),
    result(0, 3, (20, 20, 10, 10), 0.6),  # nothing there
    result(1, 7, (0, 0, 10, 7), 0.9),
    result(1, 3, (0, 0, 10, 10), 0.5),  # the better overlap, of the wrong class
    result(1, 3, (35, 15, 5, 5), 0.7),  # in the crowd
    result(1, 7, (0, 20, 10, 10), 0.7),  # nothing there
]


def test_the_confusion_matrix_by_hand(tmp_path):
    """Rows cat, dog, background; columns the same."""
    matrix = confusion_matrix(truth_of(tmp_path, CASE, images=2), FOUND, 0.5)
    assert matrix.tolist() == [[1, 1, 0], [1, 0, 1], [1, 2, 0]]
    assert matrix_csv(matrix, ("cat", "dog")) == (
        "true \\ predicted,cat,dog,background\ncat,1,1,0\ndog,1,0,1\nbackground,1,2,0\n"
    )


def test_a_lower_threshold_finds_the_missed_one(tmp_path):
    matrix = confusion_matrix(truth_of(tmp_path, CASE, images=2), FOUND, 0.1)
    assert matrix.tolist() == [[1, 1, 0], [1, 1, 0], [1, 2, 0]]


@pytest.mark.parametrize(("height", "matched"), [(5, True), (4, False)])
def test_an_overlap_of_one_half_matches(tmp_path, height, matched):
    """10 x 5 of 10 x 10 pixels: IoU exactly 0.5."""
    truth = truth_of(tmp_path, [(0, 3, (0, 0, 10, 10), 0)])
    matrix = confusion_matrix(truth, [result(0, 3, (0, 0, 10, height), 0.9)], 0.5)
    assert matrix[0, 0] == matched and matrix[0, 2] == matrix[2, 0] == (not matched)


def test_rows_sum_to_the_objects_and_columns_to_the_detections(spoiled):
    truth, found = spoiled
    matrix = confusion_matrix(truth, found, 0.4)
    for row, category in enumerate((1, 2, 3)):
        assert matrix[row].sum() == len(truth.getAnnIds(catIds=[category]))
        counted = [one for one in found if one["category_id"] == category and one["score"] >= 0.4]
        assert matrix[:, row].sum() == len(counted)
    assert matrix[3, 3] == 0


def test_perfect_results_lie_on_the_diagonal(spoiled):
    truth, _ = spoiled
    perfect = [{**copy.deepcopy(entry), "score": 1.0} for entry in truth.dataset["annotations"]]
    matrix = confusion_matrix(truth, perfect, 0.5)
    assert np.array_equal(matrix, np.diag(np.diag(matrix))) and matrix.sum() == len(perfect)

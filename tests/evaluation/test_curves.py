# SPDX-License-Identifier: Apache-2.0
"""Curves and the confusion matrix: pycocotools' arrays, its recall at each threshold, and small cases by hand."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from centermask.data.synthetic import write_shapes
from centermask.evaluation.coco_ap import coco_ap, load_ground_truth, run_cocoeval
from centermask.evaluation.confusion import confusion_matrix, matrix_csv
from centermask.evaluation.curves import SCORES, Curves, curves

HW = (40, 60)
K = 50


def runs(x: int, y: int, w: int, h: int) -> dict:
    mask = np.zeros(HW, np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    return coco_mask.encode(mask)


def truth_of(tmp_path: Path, objects: list[tuple], images: int = 1) -> COCO:
    """Objects are (image id, category id, rectangle, crowd)."""
    categories = [{"id": number, "name": name} for number, name in ((3, "cat"), (7, "dog"))]
    annotations = []
    for image_id, category_id, rectangle, crowd in objects:
        counts = runs(*rectangle)["counts"].decode()
        mask = {"size": list(HW), "counts": counts}
        annotations.append(
            {"id": len(annotations), "image_id": image_id, "category_id": category_id, "segmentation": mask}
            | {"iscrowd": crowd}
        )
    files = [{"id": n, "file_name": f"{n}.png", "height": HW[0], "width": HW[1]} for n in range(images)]
    (tmp_path / "t.json").write_text(
        json.dumps({"images": files, "annotations": annotations, "categories": categories})
    )
    return load_ground_truth(tmp_path / "t.json")


def result(image_id: int, category_id: int, rectangle: tuple, score: float) -> dict:
    return {
        "image_id": image_id, "category_id": category_id, "score": score, "bbox": [float(e) for e in rectangle],
        "segmentation": runs(*rectangle),
    }  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[COCO, list[dict]]:
    """Ten images, three classes; results with misses, shifts, wrong classes and doubles."""
    path = tmp_path_factory.mktemp("shapes")
    write_shapes(path, 1, seed=1, val_count=10)
    truth = load_ground_truth(path / "annotations" / "instances_val.json")
    rng = np.random.default_rng(0)
    found = []
    for entry in truth.dataset["annotations"]:
        mask = coco_mask.decode(entry["segmentation"])
        for _ in range(int(rng.integers(0, 3))):
            moved = coco_mask.encode(np.asfortranarray(np.roll(mask, tuple(rng.integers(-9, 10, 2)), (0, 1))))
            right = rng.random() < 0.8
            found.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": entry["category_id"] if right else int(rng.integers(1, 4)),
                    "score": round(float(rng.beta(5, 3) if right else rng.beta(3, 5)), 3),
                    "bbox": coco_mask.toBbox(moved).tolist(),
                    "segmentation": moved,
                }
            )
    return truth, found


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_precision_over_recall_is_pycocotools_own(shapes, kind):
    truth, found = shapes
    mine = curves(truth, found, K, kind)
    evaluation = run_cocoeval(truth, found, kind, K)
    np.testing.assert_array_equal(mine.precision, evaluation.eval["precision"][:, :, :, 0, -1])
    ap = coco_ap(truth, found, K)[kind]
    assert 0.05 < ap["AP"] < 0.9
    assert mine.precision.mean() == pytest.approx(ap["AP"])
    assert mine.precision[0].mean() == pytest.approx(ap["AP50"])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_recall_at_a_threshold_is_pycocotools_recall_of_what_scores_so_high(shapes, kind):
    truth, found = shapes
    mine = curves(truth, found, K, kind)
    for number in (0, 300, 437, 500, 700, 850):
        kept = [one for one in found if one["score"] >= SCORES[number]]
        evaluation = run_cocoeval(truth, kept, kind, K)
        np.testing.assert_allclose(mine.recall_at[:, number], evaluation.eval["recall"][0, :, 0, -1])
        counts = [sum(one["category_id"] == category for one in kept) for category in (1, 2, 3)]
        np.testing.assert_array_equal((mine.true + mine.false)[:, number], counts)  # no crowd: each counts


def test_f1_is_the_harmonic_mean_and_the_best_threshold_has_the_highest(shapes):
    mine = curves(*shapes, K, "segm")
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


def test_rows_sum_to_the_objects_and_columns_to_the_detections(shapes):
    truth, found = shapes
    matrix = confusion_matrix(truth, found, 0.4)
    for row, category in enumerate((1, 2, 3)):
        assert matrix[row].sum() == len(truth.getAnnIds(catIds=[category]))
        counted = [one for one in found if one["category_id"] == category and one["score"] >= 0.4]
        assert matrix[:, row].sum() == len(counted)
    assert matrix[3, 3] == 0


def test_perfect_results_lie_on_the_diagonal(shapes):
    truth, _ = shapes
    perfect = [{**copy.deepcopy(entry), "score": 1.0} for entry in truth.dataset["annotations"]]
    matrix = confusion_matrix(truth, perfect, 0.5)
    assert np.array_equal(matrix, np.diag(np.diag(matrix))) and matrix.sum() == len(perfect)

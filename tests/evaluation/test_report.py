# SPDX-License-Identifier: Apache-2.0
"""The folder of pictures that explains an evaluation."""

from __future__ import annotations

import csv

import cv2

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.evaluation.report import write_report


def test_a_report_has_curves_matrix_and_sheets(folder, found, tmp_path):
    """Perfect masks, half of them at 0.2: the best threshold keeps them all."""
    report = write_report(tmp_path, load_dataset(find_split(folder, "val")), found, 100)
    assert report.f1 == 1.0 and report.score_threshold <= 0.2
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "box_PR_curve.png", "box_F1_curve.png", "mask_PR_curve.png", "mask_F1_curve.png", "confusion_matrix.png",
        "confusion_matrix.csv", "val_batch0_labels.jpg", "val_batch0_pred.jpg",
    }  # fmt: skip
    for name in names - {"confusion_matrix.csv"}:
        assert cv2.imread(str(tmp_path / name)).std() > 10
    with (tmp_path / "confusion_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == ["ellipse", "rectangle", "star", "background"]
    assert sum(int(rows[n + 1][n + 1]) for n in range(3)) == len(found)

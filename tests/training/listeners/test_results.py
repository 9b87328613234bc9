# SPDX-License-Identifier: Apache-2.0
"""results.png: lines without gaps where an epoch was not validated."""

from __future__ import annotations

import csv
import math

import cv2

from centermask.training.listeners.results import draw_results, finite_points


def test_epochs_without_validation_leave_no_gap_and_no_nan(tmp_path):
    rows = [
        {"epoch": n, "lr": 0.1, "train/total": 1 / n, "val/segm_AP": 0.1 * n if n % 2 == 0 else math.nan}
        for n in range(1, 6)
    ]
    table = tmp_path / "results.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with table.open(newline="") as file:
        assert finite_points(list(csv.DictReader(file)), "val/segm_AP") == ([2.0, 4.0], [0.2, 0.4])
    draw_results(table, tmp_path / "results.png")
    assert cv2.imread(str(tmp_path / "results.png")).std() > 5

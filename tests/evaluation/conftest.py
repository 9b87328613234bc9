# SPDX-License-Identifier: Apache-2.0
"""Drawn shapes with results, the truth and spoiled ones, for the tests of evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from centermask.data.synthetic import write_shapes
from centermask.evaluation.coco_ap import load_ground_truth
from tests.support.shape_results import results_of, write_three


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory) -> tuple[COCO, list[dict]]:
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_three(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def found(folder) -> list[dict]:
    return results_of(folder)

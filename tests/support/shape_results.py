# SPDX-License-Identifier: Apache-2.0
"""Three drawn images and their ground truth as results, of which every other object scores low."""

from __future__ import annotations

import json
from pathlib import Path

from centermask.data.synthetic import write_shapes

HW = (80, 100)


def write_three(folder: Path) -> Path:
    """A data set whose split val has three images of HW."""
    write_shapes(folder, 1, seed=6, val_count=3, size_hw=HW)
    return folder


def results_of(folder: Path) -> list[dict]:
    """The objects of val as results; every other one scores 0.2, the rest 0.9."""
    content = json.loads((folder / "annotations" / "instances_val.json").read_text())
    return [
        {key: entry[key] for key in ("image_id", "category_id", "bbox", "segmentation")}
        | {"score": 0.9 if number % 2 else 0.2}
        for number, entry in enumerate(content["annotations"])
    ]

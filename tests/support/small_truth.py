# SPDX-License-Identifier: Apache-2.0
"""COCO ground truths and results of rectangles, as small as can be counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from centermask.evaluation.coco_ap import load_ground_truth

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

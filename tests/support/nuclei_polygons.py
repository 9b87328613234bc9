# SPDX-License-Identifier: Apache-2.0
"""The nuclei of tests/data as polygons: a real data set that COCO, Roboflow and YOLO layouts can all hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from benchmarks.three_layouts import write_coco
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from tests.support.places import NUCLEI

CLASSES = ("small", "medium", "large")
CATEGORY_IDS = (3, 7, 90)


def polygon_content(split: str, count: int, objects: int) -> tuple[dict[str, Any], Path]:
    """COCO content of the first images of a split, of each the first nuclei, and the folder of the images.

    A nucleus is the outline of its mask, `small` under 120 pixels and `large` from 400. Masks are what pycocotools
    makes of the outlines, so area and bbox are theirs.
    """
    dataset = load_dataset(find_split(NUCLEI, split))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in sorted(range(len(dataset)), key=lambda index: dataset.images[index].path.name)[:count]:
        record = dataset.images[index]
        size = record.height, record.width
        images.append({"id": record.id, "file_name": record.path.name, "height": size[0], "width": size[1]})
        for one in dataset.objects(index)[:objects]:
            outlines, _ = cv2.findContours(one.crop.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
            outline = (
                max(outlines, key=len)[:, 0].astype(float) + one.rect[:2] + 0.3
            )  # the hardest place: 5 * 0.3 is where pycocotools rounds
            polygon = outline.ravel().tolist()
            if len(outline) < 5 or not (
                area := int(coco_mask.area(runs := coco_mask.frPyObjects([polygon], *size)[0]))
            ):
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.id,
                    "category_id": CATEGORY_IDS[(area >= 120) + (area >= 400)],
                    "segmentation": [polygon],
                    "area": area,
                    "bbox": coco_mask.toBbox(runs).tolist(),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in zip(CATEGORY_IDS, CLASSES, strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}, dataset.images_dir


def write_polygons(folder: Path, *, count: int = 3, objects: int = 25) -> Path:
    """The data set in COCO layout with the splits train and val; its images are links."""
    for split in ("train", "val"):
        content, images = polygon_content(split, count, objects)
        write_coco(folder, split, content, images)
    return folder

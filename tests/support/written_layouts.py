# SPDX-License-Identifier: Apache-2.0
"""Small data sets that tests write in the layouts YOLO-seg and VOC, and how one is opened."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_split
from tests.support.nuclei_polygons import NUCLEI, polygon_content

PLACEHOLDER = {"id": 0, "name": "cells", "supercategory": "none"}
NUCLEUS = {"id": 1, "name": "nucleus", "supercategory": "cells"}


def opened(folder: Path, split: str) -> Dataset:
    return load_dataset(find_split(folder, split))


def yolo(folder: Path, lines: str = "0 .1 .1 .5 .1 .5 .5", **data: object) -> Path:
    """Two images of 40 x 30, the second without labels."""
    for name in ("a", "b"):
        place = folder / "images" / "val" / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), "grey").save(place)
    (folder / "labels" / "val").mkdir(parents=True)
    (folder / "labels" / "val" / "a.txt").write_text(lines)
    (folder / "data.yaml").write_text(yaml.safe_dump({"val": "images/val", "names": ["cat", "dog"], **data}))
    return folder


def roboflow(folder: Path, *categories: dict, annotated: int = 1) -> Path:
    """One image of three nuclei, all of the category id `annotated`, as the split val."""
    content, images = polygon_content("train", 1, 3)
    for one in content["annotations"]:
        one["category_id"] = annotated
    place = folder / "valid"
    place.mkdir(parents=True)
    image = content["images"][0]["file_name"]
    (place / image).write_bytes((images / image).read_bytes())
    (place / "_annotations.coco.json").write_text(json.dumps({**content, "categories": categories}))
    return folder


def object_maps(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A real image with numbered nuclei, outlines void: image, object numbers, class numbers (1 to 20 in turn)."""
    dataset = opened(NUCLEI, "val")
    image = dataset.image(index)
    objects = np.zeros(image.shape[:2], np.uint8)
    classes = np.zeros(image.shape[:2], np.uint8)
    for number, one in enumerate(dataset.objects(index)[:25], 1):
        x0, y0, x1, y1 = one.rect
        objects[y0:y1, x0:x1][one.crop] = number
        classes[y0:y1, x0:x1][one.crop] = (number - 1) % 20 + 1
    edge = cv2.morphologyEx(objects, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    edge &= cv2.morphologyEx(objects, cv2.MORPH_TOPHAT, np.ones((3, 3), np.uint8)) == 0
    return image, np.where(edge, 255, objects).astype(np.uint8), np.where(edge, 255, classes).astype(np.uint8)


def write_voc(root: Path, names: list[str]) -> Path:
    for folder in ("JPEGImages", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    palette = np.random.default_rng(0).integers(0, 255, 768).tolist()
    for index, name in enumerate(names):
        image, *maps = object_maps(index)
        Image.fromarray(image[..., ::-1]).save(root / "JPEGImages" / f"{name}.jpg")
        for folder, values in zip(("SegmentationObject", "SegmentationClass"), maps, strict=True):
            picture = Image.fromarray(values, "P")
            picture.putpalette(palette)
            picture.save(root / folder / f"{name}.png")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names) + "\n")
    return root

# SPDX-License-Identifier: Apache-2.0
"""A COCO data set of two small images, written anew for each test to spoil."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import Split

HEIGHT, WIDTH = 30, 40
SQUARE = [5.0, 5.0, 15.0, 5.0, 15.0, 15.0, 5.0, 15.0]


def runs_of(mask: np.ndarray) -> list[int]:
    """Uncompressed COCO run lengths, by hand: down the columns, zeros first."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return counts


def blob() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[10:20, 12:17] = True
    mask[25:30, 35:40] = True
    return mask


def content() -> dict[str, Any]:
    """Two images, the second without objects; categories 0, 7 and 90, listed out of order."""
    compressed = coco_mask.encode(np.asfortranarray(blob().view(np.uint8)))["counts"].decode()
    size = [HEIGHT, WIDTH]
    return {
        "images": [
            {"id": 11, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 3, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 90, "name": "kite"}, {"id": 0, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 11, "category_id": 90, "segmentation": [SQUARE, [20, 2, 35.5, 4, 28, 21.25]]},
            {"id": 2, "image_id": 11, "category_id": 0, "segmentation": {"size": size, "counts": compressed}},
            {"id": 5, "image_id": 11, "category_id": 7, "iscrowd": 1, "bbox": [0, 0, 40, 30],
             "segmentation": {"size": size, "counts": runs_of(blob())}},
            {"id": 8, "image_id": 11, "category_id": 7, "segmentation": {"size": size, "counts": [HEIGHT * WIDTH]}},
        ],
    }  # fmt: skip


def write(folder: Path, entries: Any) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / "images" / name), np.full((HEIGHT, WIDTH, 3), 50, np.uint8))
    path = folder / "all.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


def opened(folder: Path, entries: Any) -> Dataset:
    """The data set of a content, or of a file's text."""
    return load_dataset(Split.of_files(write(folder, entries), folder / "images"))

# SPDX-License-Identifier: Apache-2.0
"""A data set of drawn shapes with exact masks: real files for tests, CI and a first try, from a seed alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from centermask_runtime.errors import DataError

CLASS_NAMES = ("ellipse", "rectangle", "star")
MIN_AREA = 40  # pixels that must stay visible of a shape; one that is covered further is left out


def write_shapes(
    folder: Path,
    count: int,
    seed: int,
    *,
    val_count: int | None = None,
    size_hw: tuple[int, int] = (160, 192),
    max_objects: int = 8,
) -> None:
    """Writes `count` training images and val_count (default a quarter) others with their annotations below `folder`.

    Layout: annotations/instances_{train,val}.json, train/, val/. Each image has 1 to max_objects shapes; a later one
    covers the earlier ones, and masks are what remains visible. The annotation file is written last.
    """
    for split, images in (("train", count), ("val", max(count // 4, 1) if val_count is None else val_count)):
        rng = np.random.default_rng((seed, split == "val"))
        try:
            (folder / split).mkdir(parents=True, exist_ok=True)
            (folder / "annotations").mkdir(exist_ok=True)
        except OSError as error:
            raise DataError(f"Shapes cannot be written to {folder}: {error.strerror or error}.") from error
        _write_split(folder, split, images, rng, size_hw, max_objects)


def draw_scene(
    rng: np.random.Generator, size_hw: tuple[int, int], max_objects: int
) -> tuple[NDArray[np.uint8], list[tuple[int, NDArray[np.bool_]]]]:
    """Draws one image uint8 [H, W, 3] BGR and returns it with its (class index, visible mask bool [H, W]) pairs."""
    pixels = _texture(rng, size_hw, contrast=40.0)
    drawn: list[tuple[int, NDArray[np.bool_]]] = []
    for _ in range(int(rng.integers(1, max_objects + 1))):
        label = int(rng.integers(len(CLASS_NAMES)))
        mask = _shape(rng, label, size_hw)
        pixels[mask] = _texture(rng, size_hw, contrast=15.0)[mask]
        drawn = [(other, seen & ~mask) for other, seen in drawn]
        drawn.append((label, mask))
    grain = 6 * rng.standard_normal(pixels.shape, np.float32)
    image = (pixels + grain).clip(0, 255).astype(np.uint8)
    return image, [(label, mask) for label, mask in drawn if np.count_nonzero(mask) >= MIN_AREA]


def _write_split(
    folder: Path, split: str, count: int, rng: np.random.Generator, size_hw: tuple[int, int], max_objects: int
) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, count + 1):
        name = f"{image_id:06d}.png"
        image, objects = draw_scene(rng, size_hw, max_objects)
        (folder / split / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())
        images.append({"id": image_id, "file_name": name, "height": size_hw[0], "width": size_hw[1]})
        for label, mask in objects:
            runs = coco_mask.encode(np.asfortranarray(mask.view(np.uint8)))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "iscrowd": 0,
                    "area": int(coco_mask.area(runs)),
                    "bbox": coco_mask.toBbox(runs).tolist(),
                    "segmentation": {"size": list(size_hw), "counts": runs["counts"].decode()},
                }
            )
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASS_NAMES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "annotations" / f"instances_{split}.json"
    unfinished = path.with_suffix(".json.tmp")
    unfinished.write_text(json.dumps(content))
    os.replace(unfinished, path)


def _shape(rng: np.random.Generator, label: int, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Draws a filled shape of random place, size and turn, bool [H, W]; its centre is inside the image."""
    height, width = size_hw
    centre = rng.uniform(0.1, 0.9, 2) * (width, height)
    radii = rng.uniform(0.08, 0.25, 2) * min(size_hw)
    angle = rng.uniform(0, 2 * np.pi)
    x, y = np.meshgrid(np.arange(width) + 0.5 - centre[0], np.arange(height) + 0.5 - centre[1])
    u = (x * np.cos(angle) + y * np.sin(angle)) / radii[0]
    v = (y * np.cos(angle) - x * np.sin(angle)) / radii[1]
    if CLASS_NAMES[label] == "ellipse":
        return np.asarray(u * u + v * v < 1, np.bool_)
    if CLASS_NAMES[label] == "rectangle":
        return np.asarray(np.maximum(np.abs(u), np.abs(v)) < 0.9, np.bool_)
    edge = 0.85 + 0.35 * np.cos(5 * np.arctan2(v, u))  # five points
    return np.asarray(np.hypot(u, v) < edge, np.bool_)


def _texture(rng: np.random.Generator, size_hw: tuple[int, int], contrast: float) -> NDArray[np.float32]:
    """Draws soft blotches around one random colour, float32 [H, W, 3]."""
    coarse = rng.uniform(30, 225, 3) + contrast * rng.standard_normal((6, 6, 3))
    return np.asarray(cv2.resize(coarse.astype(np.float32), size_hw[::-1], interpolation=cv2.INTER_CUBIC), np.float32)

# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC 2012 segmentation and SBD as COCO content: maps of object numbers become one mask per object.

VOC (Everingham et al., IJCV 2015): SegmentationObject/x.png holds palette indices: 0 background, 1..n objects and 255
void, which is outlines and what the annotators left open. An object's class is the most frequent one under it in
SegmentationClass/x.png. Void belongs to no object; there is no third state, so that training takes it for background.
SBD (Hariharan et al., ICCV 2011): inst/x.mat holds GTinst with Segmentation [H, W] and Categories [n].
Category ids are VOC's class numbers 1..20; an image id is its place in the split's list, from 1.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from centermask.data.checks import Content, OnFault
from centermask_runtime.errors import DataError
from centermask_runtime.packages import need

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOID = 255
_VOC_FOLDERS = (".", "VOC2012", "VOCdevkit/VOC2012")
_SBD_FOLDERS = (".", "dataset", "benchmark_RELEASE/dataset")

ObjectMap = tuple[NDArray[np.uint8], dict[int, int]]  # object numbers [H, W], 0 for none; class number of each object


def voc_splits(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Finds ImageSets/Segmentation/{split}.txt and JPEGImages of each split that has masks, which `test` has not."""
    for root in (folder / name for name in _VOC_FOLDERS):
        if (root / "SegmentationObject").is_dir() and (root / "JPEGImages").is_dir():
            files = sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))
            return {file.stem: (file, root / "JPEGImages") for file in files if file.stem != "test"}
    return {}


def sbd_splits(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Finds benchmark_RELEASE/dataset/{split}.txt and img of each split."""
    for root in (folder / name for name in _SBD_FOLDERS):
        if (root / "inst").is_dir() and (root / "img").is_dir():
            return {file.stem: (file, root / "img") for file in sorted(root.glob("*.txt"))}
    return {}


def read_voc(image_set: Path, images: Path, on_fault: OnFault) -> Content:
    """Reads ImageSets/Segmentation/{split}.txt and its masks as the content of a COCO file. Raises DataError."""
    root = image_set.parents[2]

    def object_map(name: str) -> ObjectMap:
        objects = _indices(root / "SegmentationObject" / f"{name}.png")
        classes = _indices(root / "SegmentationClass" / f"{name}.png")
        if objects.shape != classes.shape:
            raise DataError(f"SegmentationObject and SegmentationClass of {name} in {root} differ in size.")
        objects = np.where(objects == VOID, 0, objects).astype(np.uint8)
        numbers = np.unique(objects[objects > 0]).tolist()
        votes = {number: np.bincount(classes[objects == number], minlength=256)[:VOID] for number in numbers}
        return objects, {number: int(vote[1:].argmax()) + 1 if vote[1:].any() else 0 for number, vote in votes.items()}

    return _content(image_set, images, object_map)


def read_sbd(image_set: Path, images: Path, on_fault: OnFault) -> Content:
    """Reads benchmark_RELEASE/dataset/{split}.txt and its masks as the content of a COCO file. Raises DataError."""
    need("scipy", "train", "SBD's .mat files")
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    def object_map(name: str) -> ObjectMap:
        path = image_set.parent / "inst" / f"{name}.mat"
        if not path.is_file():
            raise DataError(f"{image_set} lists {name}, but there is no {path}; extract the archive again.")
        try:
            truth = loadmat(path)["GTinst"]
            objects = np.asarray(truth["Segmentation"][0, 0], np.uint8)
            categories = np.asarray(truth["Categories"][0, 0]).ravel().tolist()
        except (OSError, KeyError, ValueError, IndexError, TypeError, NotImplementedError, MatReadError) as error:
            raise DataError(f"{path} is no SBD file with GTinst: {error}; extract the archive again.") from error
        numbers = np.unique(objects[objects > 0]).tolist()
        return objects, {number: int(categories[number - 1]) if number <= len(categories) else 0 for number in numbers}

    return _content(image_set, images, object_map)


def _content(image_set: Path, images: Path, object_map: Callable[[str], ObjectMap]) -> Content:
    names = _names(image_set)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # the decoders let other threads run
        for name, (shape, masks) in zip(names, pool.map(lambda name: _masks(object_map(name)), names), strict=True):
            image_id = len(entries) + 1
            entries.append({"id": image_id, "file_name": f"{name}.jpg", "height": shape[0], "width": shape[1]})
            for number, class_number, runs in masks:
                if not 1 <= class_number <= len(CLASS_NAMES):
                    raise DataError(
                        f"{image_set}: object {number} of {name} has the class {class_number}, but VOC's are 1 to 20; "
                        "its two masks may not belong together."
                    )
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": class_number,
                        "segmentation": runs,
                        "area": int(coco_mask.area(runs)),
                        "bbox": coco_mask.toBbox(runs).tolist(),
                        "iscrowd": 0,
                        "source": f"{name}, object {number}",
                    }
                )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES, 1)]
    return {"images": entries, "annotations": annotations, "categories": categories}


def _masks(objects: ObjectMap) -> tuple[tuple[int, int], list[tuple[int, int, dict[str, Any]]]]:
    """Returns the size of the map, and (number, class number, run lengths) of each object."""
    numbers, class_of = objects
    found = []
    for number, class_number in class_of.items():
        runs = coco_mask.encode(np.asfortranarray(numbers == number).view(np.uint8))
        runs["counts"] = runs["counts"].decode()
        found.append((number, class_number, runs))
    return (numbers.shape[0], numbers.shape[1]), found


def _indices(path: Path) -> NDArray[np.uint8]:
    """Reads the palette indices [H, W] of a PNG; OpenCV would give the palette's colours."""
    try:
        with Image.open(path) as picture:
            if picture.mode not in ("P", "L"):
                raise DataError(f"{path} is no palette image but {picture.mode}; use the PNGs of VOC as they are.")
            return np.asarray(picture, np.uint8)
    except FileNotFoundError:
        raise DataError(f"There is no {path}, though its split lists it; extract the archive again.") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read as an image: it may be damaged; extract the archive again.") from error


def _names(image_set: Path) -> list[str]:
    try:
        names = [line.split()[0] for line in image_set.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{image_set} cannot be read as a list of images: {error}.") from error
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{image_set} lists {twice} twice; remove one of the lines.")
    return names

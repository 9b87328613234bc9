# SPDX-License-Identifier: Apache-2.0
"""CocoDataset: a COCO-format data set as people really have it, checked when it is opened.

Polygons in several parts, run lengths in both forms, crowds, category ids with gaps or from 0, images without objects.
Whatever cannot be used is found at load, in one sentence that names the file and the id, not hours later in a worker.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from centermask.data.formats.layouts import find_split
from centermask.data.formats.voc import read_sbd, read_voc
from centermask.data.formats.yolo_seg import read_yolo
from centermask.data.json_file import read_json
from centermask_runtime.errors import DataError
from centermask_runtime.images import read_image

__all__ = ["CocoDataset", "ImageRecord", "ObjectMask", "Rect", "find_split", "load_coco"]

Rect = tuple[int, int, int, int]  # x0, y0, x1, y1 in whole pixels, x1 and y1 excluded
Segmentation = tuple[NDArray[np.float64], ...] | dict[str, Any]  # polygons as flat x, y lists, or run lengths
ROBOFLOW_FILE = "_annotations.coco.json"
FAR = 100  # image sides
_YAML = (".yaml", ".yml")
_CONVERTED = (*_YAML, ".txt")  # what stands for a split that is not COCO JSON


@dataclass(frozen=True)
class ImageRecord:
    id: int
    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class ObjectMask:
    """One annotated object: its mask inside the tight rectangle around it."""

    label: int  # index into class_names
    rect: Rect  # source pixels
    crop: NDArray[np.bool_]  # [y1 - y0, x1 - x0]
    crowd: bool  # a region of many objects: no target of its own


@dataclass(frozen=True)
class _Annotation:
    id: int
    label: int
    segmentation: Segmentation
    crowd: bool


@dataclass(frozen=True)
class CocoDataset:
    """Images and objects of one annotation file. Labels are indices into category_ids, which are sorted."""

    annotation_file: Path
    images_dir: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[ImageRecord, ...]
    _annotations: tuple[tuple[_Annotation, ...], ...]  # one tuple an image
    converted: Mapping[str, Any] | None = None  # from another layout: what its COCO file would hold; else None

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Pixels as stored, uint8 [H, W, 3] BGR; no EXIF turn, which annotations do not know of. Raises DataError."""
        record = self.images[index]
        pixels = read_image(record.path, exif=False)
        if pixels.shape[:2] != (record.height, record.width):
            raise DataError(
                f"Image {record.path} is {pixels.shape[1]} x {pixels.shape[0]} pixels, but {self.annotation_file} says "
                f"{record.width} x {record.height} for image id {record.id}; its masks would not fit."
            )
        return pixels

    def labels(self, index: int) -> tuple[int, ...]:
        """The classes of an image's annotations in file order, crowds left out: without decoding a mask."""
        return tuple(one.label for one in self._annotations[index] if not one.crowd)

    def objects(self, index: int) -> list[ObjectMask]:
        """The objects of an image in file order; one whose mask has no pixel is left out. Raises DataError."""
        record = self.images[index]
        found = (self._decode(record, annotation) for annotation in self._annotations[index])
        return [one for one in found if one is not None]

    def _decode(self, record: ImageRecord, annotation: _Annotation) -> ObjectMask | None:
        segmentation = annotation.segmentation
        try:
            if isinstance(segmentation, tuple):
                parts = coco_mask.frPyObjects(list(segmentation), record.height, record.width)
                runs = coco_mask.merge(parts)
            elif isinstance(segmentation["counts"], list):
                runs = coco_mask.frPyObjects(segmentation, record.height, record.width)
            else:
                runs = segmentation
            by_column = coco_mask.decode(runs).T  # uint8 [W, H], contiguous: COCO runs go down the columns
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{self.annotation_file}: annotation id {annotation.id} has damaged run lengths; export it again."
            ) from error
        y0, x0, height, width = cv2.boundingRect(by_column)
        if not height or not width:
            return None
        rect = x0, y0, x0 + width, y0 + height
        crop = np.ascontiguousarray(by_column[x0 : x0 + width, y0 : y0 + height].T).view(np.bool_)
        return ObjectMask(annotation.label, rect, crop, annotation.crowd)


def load_coco(annotations: Path, images: Path) -> CocoDataset:
    """Opens what find_split gives and checks all of it. Raises DataError with the first thing that cannot be used."""
    content = read_content(annotations, images)
    categories = _by_id(content["categories"], "category", annotations)
    category_ids = tuple(sorted(categories))
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}
    records = _image_records(_by_id(content["images"], "image", annotations), annotations, images)
    of_image: dict[int, list[_Annotation]] = {image_id: [] for image_id in records}
    for annotation_id, entry in _by_id(content["annotations"], "annotation", annotations).items():
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        if not isinstance(image_id, Hashable) or image_id not in records:
            raise DataError(
                f"{annotations}: annotation id {annotation_id} is of image id {image_id}, which is not in 'images'."
            )
        if not isinstance(category_id, Hashable) or category_id not in label_of:
            raise DataError(
                f"{annotations}: annotation id {annotation_id} is of category id {category_id}, "
                "which is not in 'categories'."
            )
        segmentation = _segmentation(entry, records[image_id], annotations)
        _check_inside(entry, segmentation, records[image_id], annotations)
        if (crowd := entry.get("iscrowd", 0)) not in (0, 1):
            raise DataError(f"{annotations}: annotation id {annotation_id} has an 'iscrowd' that is neither 0 nor 1.")
        of_image[image_id].append(_Annotation(annotation_id, label_of[category_id], segmentation, bool(crowd)))
    return CocoDataset(
        annotations,
        images,
        tuple(str(categories[category_id].get("name", category_id)) for category_id in category_ids),
        category_ids,
        tuple(records.values()),
        tuple(tuple(of_image[image_id]) for image_id in records),
        content if annotations.suffix in _CONVERTED or annotations.name == ROBOFLOW_FILE else None,
    )


def read_content(annotations: Path, images: Path) -> dict[str, Any]:
    """What the COCO file of a split holds, or would hold: other layouts are told by the file that stands for them."""
    if annotations.suffix in _YAML:
        return read_yolo(annotations, images)
    if annotations.suffix == ".txt":
        return (read_voc if annotations.parent.name == "Segmentation" else read_sbd)(annotations, images)
    content = _read_coco(annotations)
    return _without_placeholder(content) if annotations.name == ROBOFLOW_FILE else content


def _read_coco(path: Path) -> dict[str, Any]:
    content = read_json(path, "annotation file")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path} has no list '{key}', so it is not a COCO annotation file of instances.")
    assert isinstance(content, dict)
    return content


def _without_placeholder(content: dict[str, Any]) -> dict[str, Any]:
    """Roboflow's category 0 names the others' supercategory and nothing is of it: as a class it would only cost."""
    categories = [one for one in content["categories"] if isinstance(one, dict)]
    above = {str(one.get("supercategory")) for one in categories if one.get("id") != 0}
    used = any(isinstance(one, dict) and one.get("category_id") == 0 for one in content["annotations"])
    first = next((one for one in categories if one.get("id") == 0), None)
    if used or first is None or first.get("supercategory") != "none" or str(first.get("name")) not in above:
        return content
    return {**content, "categories": [one for one in content["categories"] if one is not first]}


def _by_id(entries: Iterable[Any], what: str, source: Path) -> dict[int, Mapping[str, Any]]:
    found: dict[int, Mapping[str, Any]] = {}
    for entry in entries:
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, int):
            raise DataError(f"{source}: there is a {what} without a whole number as 'id': {str(entry)[:80]}.")
        if key in found:
            raise DataError(f"{source}: {what} id {key} is there twice; ids must be unique.")
        found[key] = entry
    return found


def _image_records(entries: Mapping[int, Mapping[str, Any]], source: Path, folder: Path) -> dict[int, ImageRecord]:
    listings: dict[Path, set[str]] = {}  # one directory listing instead of one stat an image
    records: dict[int, ImageRecord] = {}
    for image_id, entry in entries.items():
        name, height, width = entry.get("file_name"), entry.get("height"), entry.get("width")
        if not isinstance(name, str) or not isinstance(height, int) or not isinstance(width, int):
            raise DataError(f"{source}: image id {image_id} lacks 'file_name', 'height' or 'width'.")
        if height < 1 or width < 1:
            raise DataError(f"{source}: image id {image_id} has a size of {width} x {height} pixels.")
        path = folder / name
        if path.parent not in listings:
            listings[path.parent] = {f.name for f in path.parent.iterdir()} if path.parent.is_dir() else set()
        if path.name not in listings[path.parent]:
            raise DataError(f"{source}: image id {image_id} is the file {name}, which is not in {folder}.")
        records[image_id] = ImageRecord(image_id, path, height, width)
    return records


def _segmentation(entry: Mapping[str, Any], image: ImageRecord, source: Path) -> Segmentation:
    where = f"{source}: annotation id {entry['id']} of image id {image.id}"
    value = entry.get("segmentation")
    if isinstance(value, dict):
        size, counts = value.get("size"), value.get("counts")
        if size != [image.height, image.width]:
            raise DataError(f"{where} has a mask of size {size}, but the image is [{image.height}, {image.width}].")
        if not isinstance(counts, (str, list)):
            raise DataError(f"{where} has a mask without run lengths in 'counts'.")
        if isinstance(counts, list) and not all(isinstance(run, int) and run >= 0 for run in counts):
            raise DataError(f"{where} has run lengths that are not all whole numbers of 0 or more.")
        if isinstance(counts, list) and sum(counts) != image.height * image.width:
            raise DataError(f"{where} has run lengths for {sum(counts)} of {image.height * image.width} pixels.")
        return {"size": size, "counts": counts}
    if not isinstance(value, list) or not value:
        raise DataError(f"{where} has no 'segmentation'; CenterMask learns masks, boxes alone are not enough.")
    for part in value:
        if not isinstance(part, list) or len(part) < 6 or len(part) % 2:
            length = len(part) if isinstance(part, list) else 0
            raise DataError(f"{where} has a polygon of {length} numbers; it needs x and y of at least 3 points.")
    polygons = tuple(numbers for part in value if (numbers := finite_numbers(part)) is not None)
    if len(polygons) < len(value):
        raise DataError(f"{where} has a polygon that is no flat list of finite numbers.")
    if any(is_far(polygon, (image.height, image.width)) for polygon in polygons):
        raise DataError(f"{where} has a polygon far from its image; x and y are pixels, to be counted from its corner.")
    return polygons


def is_far(polygon: NDArray[np.float64], size_hw: tuple[int, int]) -> bool:
    """Farther than a slip of the hand: pycocotools walks along all pixels of an outline, and 1e9 fill the memory."""
    return bool(np.abs(polygon).max() > FAR * max(size_hw))


def _check_inside(entry: Mapping[str, Any], segmentation: Segmentation, image: ImageRecord, source: Path) -> None:
    if isinstance(values := entry.get("bbox"), list) and len(values) == 4:
        if (box := finite_numbers(values)) is None:
            raise DataError(f"{source}: annotation id {entry['id']} has a 'bbox' that is not four finite numbers.")
        x0, y0, x1, y1 = *box[:2], *(box[:2] + box[2:])
    elif isinstance(segmentation, tuple):
        flat = np.concatenate(segmentation)
        x0, y0, x1, y1 = flat[::2].min(), flat[1::2].min(), flat[::2].max(), flat[1::2].max()
    else:
        return
    if x0 >= image.width or y0 >= image.height or x1 <= 0 or y1 <= 0:
        raise DataError(
            f"{source}: annotation id {entry['id']} lies outside of image id {image.id}: box x {x0:g} to {x1:g}, "
            f"y {y0:g} to {y1:g}, image {image.width} x {image.height} pixels."
        )


def finite_numbers(values: Any) -> NDArray[np.float64] | None:
    """A flat list of finite numbers; None for anything else."""
    try:
        array = np.array(values)
    except ValueError:  # lists of different lengths
        return None
    flat = array.ndim == 1 and array.dtype.kind in "iuf"  # text, true and null would make it another kind
    return array.astype(np.float64) if flat and np.isfinite(array).all() else None

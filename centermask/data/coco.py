# SPDX-License-Identifier: Apache-2.0
"""CocoDataset: a COCO-format data set as people really have it, checked when it is opened.

Polygons in several parts, run lengths in both forms, crowds, category ids with gaps or from 0, images without objects.
Whatever cannot be used is found at load, in one sentence that names the file and the id, not hours later in a worker.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from centermask_runtime.errors import DataError
from centermask_runtime.images import read_image

Rect = tuple[int, int, int, int]  # x0, y0, x1, y1 in whole pixels, x1 and y1 excluded
Segmentation = tuple[NDArray[np.float64], ...] | dict[str, Any]  # polygons as flat x, y lists, or run lengths
_SPLIT_ALIASES = {"val": "valid"}  # Roboflow's word


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
    """Opens a COCO annotation file and checks all of it. Raises DataError with the first thing that cannot be used."""
    content = _read_json(annotations)
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
    )


def find_split(data_folder: Path, split: str = "val") -> tuple[Path, Path]:
    """(annotation file, image folder) of a split in a recognised layout. Raises DataError with what was looked for."""
    folder_names = [split, _SPLIT_ALIASES[split]] if split in _SPLIT_ALIASES else [split]
    candidates = [
        (data_folder / "annotations" / f"instances_{split}2017.json", data_folder / f"{split}2017"),
        (data_folder / "annotations" / f"instances_{split}.json", data_folder / split),
        *((data_folder / name / "_annotations.coco.json", data_folder / name) for name in folder_names),
    ]
    for annotation_file, image_folder in candidates:
        if annotation_file.is_file() and image_folder.is_dir():
            return annotation_file, image_folder
    looked_for = ", ".join(f"{a.relative_to(data_folder)} with {i.name}/" for a, i in candidates)
    raise DataError(
        f"No split '{split}' of a COCO data set in {data_folder}: looked for {looked_for}; "
        "name the files with --annotations and --images instead."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"There is no annotation file {path}.") from None
    except OSError as error:
        raise DataError(f"Annotation file {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise DataError(f"Annotation file {path} is not JSON: {error}.") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path} has no list '{key}', so it is not a COCO annotation file of instances.")
    assert isinstance(content, dict)
    return content


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
    polygons = tuple(numbers for part in value if (numbers := _numbers(part)) is not None)
    if len(polygons) < len(value):
        raise DataError(f"{where} has a polygon that is no flat list of finite numbers.")
    return polygons


def _check_inside(entry: Mapping[str, Any], segmentation: Segmentation, image: ImageRecord, source: Path) -> None:
    if isinstance(values := entry.get("bbox"), list) and len(values) == 4:
        if (box := _numbers(values)) is None:
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


def _numbers(values: list[Any]) -> NDArray[np.float64] | None:
    """A flat list of finite numbers; None for anything else."""
    try:
        array = np.array(values)
    except ValueError:  # lists of different lengths
        return None
    flat = array.ndim == 1 and array.dtype.kind in "iuf"  # text, true and null would make it another kind
    return array.astype(np.float64) if flat and np.isfinite(array).all() else None

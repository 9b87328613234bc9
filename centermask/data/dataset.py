# SPDX-License-Identifier: Apache-2.0
"""Dataset: the images and objects of one split, whatever its layout, as people really have them; checked when opened.

Polygons in several parts, run lengths in both forms, crowds, category ids with gaps or from 0, images without objects.
Whatever cannot be used is found at load, in one sentence that names the file and the id, not hours later in a worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask.data.checks import Segmentation, check_annotation, check_entries, check_presence, check_size, refuse
from centermask.data.formats.layouts import COCO, Split
from centermask.data.segmentation import Rect, as_runs, tight_crop
from centermask_runtime.errors import DataError
from centermask_runtime.image_kinds import is_stack
from centermask_runtime.images import read_image
from centermask_runtime.value_range import ValueRange


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set: its file, and the size that its annotations were made on."""

    id: int
    path: Path
    height: int
    width: int


@dataclass(frozen=True)
class Annotation:
    """One annotated object as it was read: its mask is not decoded yet."""

    label: int  # index into class_names
    segmentation: Segmentation
    crowd: bool


@dataclass(frozen=True)
class ObjectMask:
    """One annotated object: its mask inside the tight rectangle around it."""

    label: int  # index into class_names
    rect: Rect  # source pixels
    crop: NDArray[np.bool_]  # [y1 - y0, x1 - x0]
    crowd: bool  # a region of many objects: no target of its own


@dataclass(frozen=True)
class Dataset:
    """The images and objects of one split. Labels are indices into category_ids, which are sorted."""

    split: Split
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[ImageRecord, ...]
    annotations: tuple[tuple[Annotation, ...], ...]  # one tuple per image, in file order
    converted: Mapping[str, Any] | None = None  # from another layout: what its COCO file would hold; else None

    @property
    def annotation_file(self) -> Path:
        return self.split.annotations

    @property
    def images_dir(self) -> Path:
        return self.split.images

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int, values: ValueRange | None = None) -> NDArray[np.uint8]:
        """Reads the pixels as stored, uint8 [H, W, 3] BGR: no EXIF turn, which masks do not know. Raises DataError.

        values: of images with more than 8 bits. A stack of several pages is refused: its masks are of none of them.
        """
        record = self.images[index]
        if is_stack(record.path):
            raise DataError(f"{record.path} holds several pages, and annotations are of one: save each as a file.")
        pixels = read_image(record.path, exif=False, values=values)
        found_hw = pixels.shape[0], pixels.shape[1]
        where = f"image id {record.id} ({record.path})"
        check_size(where, found_hw, (record.height, record.width), refuse(self.annotation_file))
        return pixels

    def labels(self, index: int) -> tuple[int, ...]:
        """Returns the classes of an image's annotations in file order, without its crowds; no mask is decoded."""
        return tuple(one.label for one in self.annotations[index] if not one.crowd)

    def objects(self, index: int) -> list[ObjectMask]:
        """Returns the objects of an image in file order; one whose mask has no pixel is left out."""
        size_hw = self.images[index].height, self.images[index].width
        found = ((one, tight_crop(as_runs(one.segmentation, size_hw))) for one in self.annotations[index])
        return [ObjectMask(one.label, *mask, one.crowd) for one, mask in found if mask is not None]


def load_dataset(split: Split) -> Dataset:
    """Opens a split, as find_split gives it, and checks all of it. Raises DataError with the first fault.

    >>> dataset = load_dataset(find_split(Path("datasets/coco"), "val"))
    >>> image, objects = dataset.image(0), dataset.objects(0)
    """
    on_fault = refuse(split.annotations)
    content = split.read(on_fault)
    entries = check_entries(content, on_fault)
    paths = check_presence(entries.images, split.images, on_fault)
    category_ids = tuple(sorted(entries.categories))
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}
    images, annotations = [], []
    for image_id, image in entries.images.items():
        images.append(ImageRecord(image_id, paths[image_id], image["height"], image["width"]))
        of_image = []
        for entry in entries.annotations[image_id]:
            mask = check_annotation(entry, image, on_fault).mask
            assert mask is not None, entry  # else refused
            of_image.append(Annotation(label_of[entry["category_id"]], mask, bool(entry.get("iscrowd", 0))))
        annotations.append(tuple(of_image))
    return Dataset(
        split,
        tuple(entries.categories[category_id] for category_id in category_ids),
        category_ids,
        tuple(images),
        tuple(annotations),
        None if split.layout is COCO else content,
    )

# SPDX-License-Identifier: Apache-2.0
"""Files of results, as val, predict and other programs write them, checked against the data set they belong to."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from centermask.data.coco import CocoDataset, finite_numbers
from centermask.data.json_file import read_json
from centermask.evaluation.classes import ids_by_name, some
from centermask_runtime.errors import DataError
from centermask_runtime.reference.rle import decode_counts


def read_results(path: Path, dataset: CocoDataset) -> list[dict[str, Any]]:
    """COCO results with the data set's ids: a list of them (val --save-json), or predict's predictions.json.

    The latter's images are found by file name and its categories by name; images that the data set does not have are
    left out. Raises DataError that names the first entry that does not fit.
    """
    content = read_json(path, "results file")
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        entries = _with_ids_of(dataset, content, path)
    elif isinstance(content, list):
        entries = content
    else:
        raise DataError(f"{path} is neither a list of COCO results nor predict's predictions.json.")
    sizes = {record.id: [record.height, record.width] for record in dataset.images}
    for number, entry in enumerate(entries):
        if (fault := _fault(entry, sizes, dataset)) is not None:
            raise DataError(f"{path}: result {number} {fault}; give it the data set it was made on.")
    return entries


def _with_ids_of(dataset: CocoDataset, content: dict[str, Any], path: Path) -> list[Any]:
    of_name = {record.path.name: record.id for record in dataset.images}
    ids = {
        image.get("id"): of_name.get(Path(str(image.get("file_name"))).name)
        for image in content.get("images", [])
        if isinstance(image, dict)
    }
    if ids and not any(image_id is not None for image_id in ids.values()):
        raise DataError(f"None of the {len(ids)} images of {path} is in {dataset.images_dir}; name its data set.")
    entries = [entry for entry in content["annotations"] if isinstance(entry, dict)]
    known = [entry for entry in entries if ids.get(entry.get("image_id")) is not None]
    known = [{**entry, "image_id": ids[entry["image_id"]]} for entry in known]
    if not (categories := content.get("categories")):  # another program's: its ids are taken for the data set's
        return known
    category_of = _categories_of(dataset, categories, path)
    return [{**entry, "category_id": category_of.get(entry.get("category_id"))} for entry in known]


def _categories_of(dataset: CocoDataset, categories: Any, path: Path) -> dict[Any, int]:
    """The data set's id of each of the file's own."""
    try:
        own = {category["id"]: str(category["name"]) for category in categories}
    except (KeyError, TypeError):
        raise DataError(f"{path} has 'categories' without 'id' and 'name'; write it again with predict.") from None
    same = dict(zip(dataset.category_ids, dataset.class_names, strict=True))
    if own == same:
        return {number: number for number in same}
    ids = ids_by_name(tuple(own.values()), dataset)
    if ids is None:
        raise DataError(
            f"{path} has the classes {some(tuple(own.values()))}, but {dataset.annotation_file} has "
            f"{some(dataset.class_names)}; name a data set of the classes that its model knows."
        )
    return dict(zip(own, ids, strict=True))


def _fault(entry: Any, sizes: dict[int, list[int]], dataset: CocoDataset) -> str | None:
    if not isinstance(entry, dict):
        return "is no object with 'image_id', 'category_id' and 'score'"
    image_id, category_id, score = (entry.get(key) for key in ("image_id", "category_id", "score"))
    if not isinstance(score, (int, float)):
        return "has no 'score'"
    if not isinstance(image_id, Hashable) or image_id not in sizes:
        return f"is of image id {image_id}, which {dataset.annotation_file} does not have"
    if category_id not in dataset.category_ids:
        return f"is of category id {category_id}, which {dataset.annotation_file} does not have"
    box, mask = entry.get("bbox"), entry.get("segmentation")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and finite_numbers(box) is not None):
        return "has a 'bbox' that is not x, y, width, height"
    if isinstance(mask, dict) and (mask.get("size") != sizes[image_id] or not mask.get("counts")):
        return f"has a mask of size {mask.get('size')}, but the image is {sizes[image_id]}"
    if box is None and not mask:
        return "has neither 'bbox' nor 'segmentation'"
    if mask and not (_is_whole(mask["counts"], sizes[image_id]) if isinstance(mask, dict) else _is_outlines(mask)):
        return "has a damaged mask"
    return None


def _is_whole(counts: Any, size_hw: list[int]) -> bool:
    """Whether run lengths are those of all the image's pixels: pycocotools fails at others, or says nothing."""
    try:
        runs = decode_counts(counts) if isinstance(counts, str) else np.array(counts)
    except (DataError, ValueError):
        return False
    whole = runs.ndim == 1 and runs.dtype.kind == "i" and (runs >= 0).all() and runs.sum() == size_hw[0] * size_hw[1]
    return bool(whole)


def _is_outlines(mask: Any) -> bool:
    return isinstance(mask, list) and all(
        isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0 and finite_numbers(part) is not None
        for part in mask
    )

# SPDX-License-Identifier: Apache-2.0
"""Files of results, as val, predict and other programs write them, checked against the data set they belong to."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from centermask.data.checks import check_box, check_mask, refuse
from centermask.data.dataset import Dataset
from centermask.data.json_file import read_json
from centermask.evaluation.evaluate import ids_by_name
from centermask_runtime.errors import DataError, some


def read_results(path: Path, dataset: Dataset) -> list[dict[str, Any]]:
    """Reads COCO results with the data set's ids: a list of them (val --save-json), or predict's predictions.json.

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
    sizes = {record.id: (record.height, record.width) for record in dataset.images}
    for number, entry in enumerate(entries):
        where = f"result {number}"
        if (fault := _fault(entry, sizes, dataset)) is not None:
            raise DataError(f"{path}: {where} {fault}; give it the data set it was made on.")
        check_box(entry.get("bbox"), where, refuse(path))
        if mask := entry.get("segmentation"):  # of a detector without masks it may lack or be empty
            check_mask(mask, sizes[entry["image_id"]], where, refuse(path))
    return entries


def _with_ids_of(dataset: Dataset, content: dict[str, Any], path: Path) -> list[Any]:
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


def _categories_of(dataset: Dataset, categories: Any, path: Path) -> dict[Any, int]:
    """Returns the data set's id of each of the file's own."""
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


def _fault(entry: Any, sizes: Mapping[int, tuple[int, int]], dataset: Dataset) -> str | None:
    if not isinstance(entry, dict):
        return "is no object with 'image_id', 'category_id' and 'score'"
    image_id, category_id, score = (entry.get(key) for key in ("image_id", "category_id", "score"))
    if not isinstance(score, (int, float)):
        return "has no 'score'"
    if not isinstance(image_id, Hashable) or image_id not in sizes:
        return f"is of image id {image_id}, which {dataset.annotation_file} does not have"
    if category_id not in dataset.category_ids:
        return f"is of category id {category_id}, which {dataset.annotation_file} does not have"
    if entry.get("bbox") is None and not entry.get("segmentation"):
        return "has neither 'bbox' nor 'segmentation'"
    return None

# SPDX-License-Identifier: Apache-2.0
"""COCO JSON, as COCO itself and as Roboflow lay it out: where the splits of a folder are, and what a file holds."""

from __future__ import annotations

import re
from pathlib import Path

from centermask.data.checks import Content, OnFault
from centermask.data.json_file import read_json
from centermask_runtime.errors import DataError

ROBOFLOW_FILE = "_annotations.coco.json"


def coco_splits(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Finds annotations/instances_{split}{year}.json; of several years 2017 is the split, else the newest."""
    dated: dict[str, dict[str, tuple[Path, Path]]] = {}  # split -> year, or "" -> places
    for file in sorted(folder.glob("annotations/instances_*.json")):
        match = re.fullmatch(r"instances_(.+?)(\d{4})?\.json", file.name)
        assert match is not None, file
        split, year = match[1], match[2] or ""
        places = (folder / name for name in (split + year, f"images/{split}{year}", split, f"images/{split}"))
        if images := next((place for place in places if place.is_dir()), None):
            dated.setdefault(split, {})[year] = file, images
    splits: dict[str, tuple[Path, Path]] = {}
    for split, years in dated.items():
        best = max(years, key=_preference)
        splits[split] = years[best]
        splits |= {split + year: places for year, places in years.items() if year != best and year}
    return splits


def roboflow_splits(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Finds {train,valid,test}/_annotations.coco.json, each beside its images."""
    files = sorted(folder.glob(f"*/{ROBOFLOW_FILE}"))
    return {file.parent.name: (file, file.parent) for file in files}


def read_coco(annotations: Path, images: Path, on_fault: OnFault) -> Content:
    """Returns the content of a COCO file of instances. Raises DataError where it is none."""
    content = read_json(annotations, "annotation file")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{annotations} has no list '{key}', so it is not a COCO annotation file of instances.")
    assert isinstance(content, dict)
    return content


def read_roboflow(annotations: Path, images: Path, on_fault: OnFault) -> Content:
    """Reads as read_coco does, but without Roboflow's category 0, which only names the others' supercategory.

    As a class it would only cost. It stays where an annotation is of it.
    """
    content = read_coco(annotations, images, on_fault)
    categories = [one for one in content["categories"] if isinstance(one, dict)]
    above = {str(one.get("supercategory")) for one in categories if one.get("id") != 0}
    used = any(isinstance(one, dict) and one.get("category_id") == 0 for one in content["annotations"])
    first = next((one for one in categories if one.get("id") == 0), None)
    if used or first is None or first.get("supercategory") != "none" or str(first.get("name")) not in above:
        return content
    return {**content, "categories": [one for one in content["categories"] if one is not first]}


def _preference(year: str) -> tuple[bool, bool, str]:
    """Orders years: 2017, which COCO's users mean, before a file without a year, before the newest year."""
    return year == "2017", year == "", year

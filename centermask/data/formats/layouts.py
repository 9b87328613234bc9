# SPDX-License-Identifier: Apache-2.0
"""Which layout a folder has, and where its splits are. A split is always a pair of paths, which opens it again later:

layout         annotations                                  images
COCO           annotations/instances_{split}{year}.json     {split}{year}/ or images/{split}{year}/; the year may lack
Roboflow COCO  {train,valid,test}/_annotations.coco.json    the same folder; `valid` is the split val
YOLO-seg       data.yaml                                    the folder, or .txt list of images, that its key names
VOC            ImageSets/Segmentation/{split}.txt           JPEGImages/
SBD            benchmark_RELEASE/dataset/{split}.txt        img/
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from centermask.data.formats.yolo_seg import find_data_file, yolo_splits
from centermask_runtime.errors import DataError, did_you_mean

Places = tuple[Path, Path]  # annotations, images
ROOT_VARIABLES = ("CENTERMASK_DATASETS", "DETECTRON2_DATASETS")
DEFAULT_ROOT = Path("datasets")
_VAL = {"valid": "val", "validation": "val"}  # Roboflow's word, and another one that people use
_VOC_FOLDERS = (".", "VOC2012", "VOCdevkit/VOC2012")
_SBD_FOLDERS = (".", "dataset", "benchmark_RELEASE/dataset")


@dataclass(frozen=True)
class Layout:
    name: str
    splits: dict[str, Places]


def dataset_root() -> Path:
    """Where data sets are looked up by name: CENTERMASK_DATASETS, else DETECTRON2_DATASETS, else ./datasets."""
    return next((Path(os.environ[name]) for name in ROOT_VARIABLES if os.environ.get(name)), DEFAULT_ROOT)


def find_dataset(data: Path) -> Path:
    """The folder (or YOLO data file) that --data names, by its path or below dataset_root(). Raises DataError."""
    if data.is_dir() or _is_yaml(data):
        return data
    root = dataset_root()
    if (root / data).is_dir():
        return root / data
    if data.is_file():
        raise DataError(f"--data {data} is a file; name a folder or a YOLO data.yaml, or use --annotations {data}.")
    known = [folder.name for folder in root.iterdir() if folder.is_dir()] if root.is_dir() else []
    advice = did_you_mean(str(data), known) if known else f"set {ROOT_VARIABLES[0]} to the folder of your data sets."
    raise DataError(f"There is no folder '{data}' and no data set of that name in {root}: {advice}")


def find_split(data: Path, split: str = "val") -> Places:
    """(annotations, images) of a split of a folder, or of a YOLO data file. Raises DataError with what is there."""
    split = _VAL.get(split, split)
    found = recognise(data)
    having = [layout for layout in found if split in layout.splits]
    if len(having) == 1:
        return having[0].splits[split]
    if having:
        names = " and ".join(layout.name for layout in having)
        places = ", ".join(str(layout.splits[split][0]) for layout in having)
        raise DataError(
            f"{data} holds the split '{split}' in the layouts {names}; choose by --annotations and --images: {places}."
        )
    if found:
        there = "; ".join(f"{', '.join(layout.splits)} ({layout.name})" for layout in found)
        raise DataError(
            f"No split '{split}' in {data}, which has {there}; name one of them by --split, or the files by "
            "--annotations and --images."
        )
    raise DataError(
        f"No split '{split}' of a data set in {data}: looked for {_looked_for(split)}; "
        "name the files with --annotations and --images instead."
    )


def recognise(data: Path) -> list[Layout]:
    """The layouts of a folder; none for any other folder. Raises DataError for a YOLO data file that is damaged."""
    if _is_yaml(data):
        return [Layout("YOLO-seg", yolo_splits(data))]
    data_file = find_data_file(data)
    layouts = (
        Layout("COCO", _coco_splits(data)),
        Layout("Roboflow COCO", _roboflow_splits(data)),
        Layout("YOLO-seg", yolo_splits(data_file) if data_file else {}),
        Layout("VOC", _voc_splits(data)),
        Layout("SBD", _sbd_splits(data)),
    )
    return [layout for layout in layouts if layout.splits]


def _coco_splits(folder: Path) -> dict[str, Places]:
    dated: dict[str, dict[str, Places]] = {}  # split -> year, or "" -> places
    for file in sorted(folder.glob("annotations/instances_*.json")):
        match = re.fullmatch(r"instances_(.+?)(\d{4})?\.json", file.name)
        assert match is not None, file
        split, year = match[1], match[2] or ""
        places = (folder / name for name in (split + year, f"images/{split}{year}", split, f"images/{split}"))
        if images := next((place for place in places if place.is_dir()), None):
            dated.setdefault(split, {})[year] = file, images
    splits: dict[str, Places] = {}
    for split, years in dated.items():
        best = max(years, key=lambda year: (year == "2017", year == "", year))
        splits[_VAL.get(split, split)] = years[best]
        splits |= {split + year: places for year, places in years.items() if year != best and year}
    return splits


def _roboflow_splits(folder: Path) -> dict[str, Places]:
    files = sorted(folder.glob("*/_annotations.coco.json"))
    return {_VAL.get(file.parent.name, file.parent.name): (file, file.parent) for file in files}


def _voc_splits(folder: Path) -> dict[str, Places]:
    for root in (folder / name for name in _VOC_FOLDERS):
        if (root / "SegmentationObject").is_dir() and (root / "JPEGImages").is_dir():
            files = sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))
            return {file.stem: (file, root / "JPEGImages") for file in files if file.stem != "test"}  # no masks
    return {}


def _sbd_splits(folder: Path) -> dict[str, Places]:
    for root in (folder / name for name in _SBD_FOLDERS):
        if (root / "inst").is_dir() and (root / "img").is_dir():
            return {file.stem: (file, root / "img") for file in sorted(root.glob("*.txt"))}
    return {}


def _is_yaml(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml") and path.is_file()


def _looked_for(split: str) -> str:
    folders = [split, *(other for other, name in _VAL.items() if name == split)]
    return ", ".join(
        (
            f"annotations/instances_{split}2017.json with {split}2017/ (or another year)",
            f"annotations/instances_{split}.json with {split}/",
            *(f"{name}/_annotations.coco.json" for name in folders[:2]),
            "data.yaml (YOLO-seg)",
            f"ImageSets/Segmentation/{split}.txt (VOC)",
            f"benchmark_RELEASE/dataset/{split}.txt (SBD)",
        )
    )

# SPDX-License-Identifier: Apache-2.0
"""The layouts that are known, which of them a folder has, and where its splits are.

layout         annotations                                  images
COCO           annotations/instances_{split}{year}.json     {split}{year}/ or images/{split}{year}/; the year may lack
Roboflow COCO  {train,valid,test}/_annotations.coco.json    the same folder; `valid` is the split val
YOLO-seg       data.yaml                                    the folder, or .txt list of images, that its key names
VOC            ImageSets/Segmentation/{split}.txt           JPEGImages/
SBD            benchmark_RELEASE/dataset/{split}.txt        img/
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from centermask.data.checks import Content, OnFault
from centermask.data.formats.coco import ROBOFLOW_FILE, coco_splits, read_coco, read_roboflow, roboflow_splits
from centermask.data.formats.voc import read_sbd, read_voc, sbd_splits, voc_splits
from centermask.data.formats.yolo_seg import is_yaml, read_yolo, yolo_splits
from centermask_runtime.errors import DataError, did_you_mean

ROOT_VARIABLES = ("CENTERMASK_DATASETS", "DETECTRON2_DATASETS")
DEFAULT_ROOT = Path("datasets")
_VAL = {"valid": "val", "validation": "val"}  # Roboflow's word, and another one that people use


@dataclass(frozen=True)
class DatasetLayout:
    """How a data set lies in its folder: what finds its splits, and what reads one of them."""

    name: str
    find: Callable[[Path], dict[str, tuple[Path, Path]]]  # folder -> annotations and images of each split
    read: Callable[[Path, Path, OnFault], Content]  # annotations, images, what to do about faults -> COCO content


COCO = DatasetLayout("COCO", coco_splits, read_coco)
ROBOFLOW = DatasetLayout("Roboflow COCO", roboflow_splits, read_roboflow)
YOLO = DatasetLayout("YOLO-seg", yolo_splits, read_yolo)
VOC = DatasetLayout("VOC", voc_splits, read_voc)
SBD = DatasetLayout("SBD", sbd_splits, read_sbd)
LAYOUTS = {layout.name: layout for layout in (COCO, ROBOFLOW, YOLO, VOC, SBD)}


@dataclass(frozen=True)
class Split:
    """One part of a data set: its name, how it is laid out, what its annotations stand in, where its images are."""

    name: str
    layout: DatasetLayout
    annotations: Path
    images: Path

    @classmethod
    def of_files(cls, annotations: Path, images: Path) -> Split:
        """Makes a split of files that somebody named; the name of the annotations tells the layout."""
        if annotations.suffix in (".yaml", ".yml"):
            layout = YOLO
        elif annotations.suffix == ".txt":
            layout = VOC if annotations.parent.name == "Segmentation" else SBD
        else:
            layout = ROBOFLOW if annotations.name == ROBOFLOW_FILE else COCO
        return cls(annotations.stem, layout, annotations, images)

    def read(self, on_fault: OnFault) -> Content:
        """Returns what the COCO file of this split holds, or would hold. Raises DataError where nothing can be read."""
        return self.layout.read(self.annotations, self.images, on_fault)


def dataset_root() -> Path:
    """Returns where data sets are looked up by name: CENTERMASK_DATASETS, else DETECTRON2_DATASETS, else ./datasets."""
    return next((Path(os.environ[name]) for name in ROOT_VARIABLES if os.environ.get(name)), DEFAULT_ROOT)


def find_dataset(data: Path) -> Path:
    """Finds the folder (or YOLO data file) of a data set by its path or below dataset_root(). Raises DataError."""
    if data.is_dir() or is_yaml(data):
        return data
    root = dataset_root()
    if (root / data).is_dir():
        return root / data
    if data.is_file():
        raise DataError(
            f"The data set {data} is a file; name a folder or a YOLO data.yaml, or give the file as annotations, "
            "together with the folder of its images."
        )
    known = [folder.name for folder in root.iterdir() if folder.is_dir()] if root.is_dir() else []
    advice = did_you_mean(str(data), known) if known else f"set {ROOT_VARIABLES[0]} to the folder of your data sets."
    raise DataError(f"There is no folder '{data}' and no data set of that name in {root}: {advice}")


def find_split(data: Path, split: str = "val") -> Split:
    """Finds a split of a folder, or of a YOLO data file. Raises DataError that says which splits there are."""
    split = _VAL.get(split, split)
    found = recognise(data)
    having = [one for one in found if one.name == split]
    if len(having) == 1:
        return having[0]
    if having:
        names = " and ".join(one.layout.name for one in having)
        places = ", ".join(str(one.annotations) for one in having)
        raise DataError(
            f"{data} holds the split '{split}' in the layouts {names}; choose by naming the file of annotations and "
            f"the folder of images: {places}."
        )
    if found:
        splits = {one.layout.name: [other.name for other in found if other.layout is one.layout] for one in found}
        there = "; ".join(f"{', '.join(names)} ({layout})" for layout, names in splits.items())
        raise DataError(
            f"No split '{split}' in {data}, which has {there}; name one of these, or the file of annotations and the "
            "folder of images that you mean."
        )
    raise DataError(
        f"No split '{split}' of a data set in {data}: looked for {_looked_for(split)}; "
        "name the file of annotations and the folder of images instead."
    )


def recognise(data: Path) -> list[Split]:
    """Finds all splits of a folder, layout by layout. Raises DataError for a damaged data.yaml."""
    layouts = (YOLO,) if is_yaml(data) else LAYOUTS.values()
    return [
        Split(_VAL.get(name, name), layout, annotations, images)
        for layout in layouts
        for name, (annotations, images) in layout.find(data).items()
    ]


def _looked_for(split: str) -> str:
    folders = [split, *(other for other, name in _VAL.items() if name == split)]
    return ", ".join(
        (
            f"annotations/instances_{split}2017.json with {split}2017/ (or another year)",
            f"annotations/instances_{split}.json with {split}/",
            *(f"{name}/{ROBOFLOW_FILE}" for name in folders[:2]),
            "data.yaml (YOLO-seg)",
            f"ImageSets/Segmentation/{split}.txt (VOC)",
            f"benchmark_RELEASE/dataset/{split}.txt (SBD)",
        )
    )

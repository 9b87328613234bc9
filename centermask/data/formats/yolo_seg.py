# SPDX-License-Identifier: Apache-2.0
"""YOLO segmentation labels as COCO content, read as Ultralytics reads them.

data.yaml has `names` and, for each split, a folder of images or a .txt list of them. The labels of images/x/a.jpg are
labels/x/a.txt: one line per object, `class x1 y1 x2 y2 ...`, normalised by the width and height of the stored image.
Several outlines of one object, which COCO keeps apart, are one closed line here. An image without a label file has no
objects. Category ids are the class indices; image ids count the sorted images from 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from centermask.data.checks import Content, Fault, OnFault
from centermask_runtime.errors import DataError
from centermask_runtime.image_kinds import is_image

_SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
_OUTSIDE = 0.01  # of the image: how far labels may reach beyond it before they are taken for pixels


def is_yaml(path: Path) -> bool:
    """Says whether the path is a YAML file, which as a data set can only be YOLO's."""
    return path.suffix in (".yaml", ".yml") and path.is_file()


def find_data_file(folder: Path) -> Path | None:
    """Returns data.yaml of a folder, else its only YAML file that names classes and images."""
    for name in ("data.yaml", "data.yml"):
        if (folder / name).is_file():
            return folder / name
    others = [file for file in sorted(folder.glob("*.y*ml")) if file.suffix in (".yaml", ".yml")]
    return others[0] if len(others) == 1 and _is_data_file(others[0]) else None


def yolo_splits(place: Path) -> dict[str, tuple[Path, Path]]:
    """Returns (data file, images) of each split that a folder's data file, or this one, names and that is there.

    Raises DataError for a data file that is damaged.
    """
    data_file = place if is_yaml(place) else find_data_file(place)
    if data_file is None:
        return {}
    content = _read_data_file(data_file)
    splits = {}
    for split, keys in _SPLIT_KEYS.items():
        value = next((content[key] for key in keys if content.get(key)), None)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if value is None:
            continue
        if not isinstance(value, str):
            raise DataError(
                f"{data_file}: '{split}' must be one folder or one .txt list of images, but is {str(value)[:60]}; "
                "list the images of several folders in one .txt file."
            )
        if (images := _resolve(data_file, content.get("path"), value)) is not None:
            splits[split] = data_file, images
    return splits


def read_yolo(data_file: Path, images: Path, on_fault: OnFault) -> Content:
    """Reads images and labels of a folder or list of images as the content of a COCO file.

    A line or an image with a fault, which its sentence names by file and line, is left out.
    """
    names = _class_names(data_file)
    listings: dict[Path, set[str]] = {}  # one directory listing instead of one stat per label file
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path in _image_paths(images):
        try:
            with Image.open(path) as picture:  # the header alone
                width, height = picture.size
        except (OSError, Image.DecompressionBombError) as error:
            kind = "missing-image" if isinstance(error, FileNotFoundError) else "unreadable-image"
            on_fault(Fault(kind, f"The image {path} cannot be read: it may be missing or damaged."))
            continue
        image_id = len(entries) + 1
        name = path.relative_to(images).as_posix() if path.is_relative_to(images) else str(path.absolute())
        entries.append({"id": image_id, "file_name": name, "width": width, "height": height})
        labels = _label_file(path)
        if labels.parent not in listings:
            there = labels.parent.iterdir() if labels.parent.is_dir() else ()
            listings[labels.parent] = {file.name for file in there}
        if labels.name not in listings[labels.parent]:
            continue
        for number, line in enumerate(_text(labels).splitlines(), 1):
            if not line.strip():
                continue
            where = f"{labels} line {number}"
            parsed = _parse(line, len(names), where)
            if isinstance(parsed, Fault):
                on_fault(parsed)
                continue
            label, normalised = parsed
            # to a millionth of a pixel, which undoes the rounding of the division: polygons come back as they were
            polygon = [round(value * (height if i % 2 else width), 6) for i, value in enumerate(normalised)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label,
                    "segmentation": [polygon],
                    "iscrowd": 0,
                    "source": where,
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(names)]
    return {"images": entries, "annotations": annotations, "categories": categories}


def _parse(line: str, classes: int, where: str) -> tuple[int, list[float]] | Fault:
    """Returns class index and x, y, ... of a line, or what is wrong with it."""
    words = line.split()
    try:
        label, *numbers = (float(word) for word in words)
    except ValueError:
        return _bad(f"{where} has a word that is no number; a line is 'class x1 y1 x2 y2 x3 y3 ...'.")
    if len(numbers) == 4:
        says = f"{where} is a box and no polygon; CenterMask learns masks: export the labels as segmentation."
        return Fault("box-only", says)
    if len(numbers) < 6 or len(numbers) % 2:
        return _bad(f"{where} has {len(numbers)} numbers after the class; it needs x and y of at least 3 points.")
    if not label.is_integer() or not 0 <= label < classes:
        return _bad(f"{where} is of class {words[0]}, but data.yaml names the classes 0 to {classes - 1}.")
    if not all(math.isfinite(value) and -_OUTSIDE <= value <= 1 + _OUTSIDE for value in numbers):
        return _bad(f"{where} has coordinates outside 0..1; divide x by the image's width and y by its height.")
    return int(label), numbers


def _bad(sentence: str) -> Fault:
    return Fault("bad-label-line", sentence)


def _image_paths(images: Path) -> list[Path]:
    if images.is_dir():
        found = sorted(path for path in images.rglob("*") if is_image(path) and path.is_file())
    else:
        lines = [line.strip() for line in _text(images).splitlines() if line.strip()]
        # a leading ./ means: beside the list, as in Ultralytics' own lists
        found = sorted(images.parent / line.removeprefix("./") for line in lines)
    if not found:
        raise DataError(f"{images} names no images: check what data.yaml says about this split.")
    return found


def _label_file(image: Path) -> Path:
    """Returns the labels of an image: its last folder `images` becomes `labels`; without one they lie beside it."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _resolve(data_file: Path, root: Any, value: str) -> Path | None:
    """Finds the images of a split: `path` and the split's value mean different folders to different exporters."""
    here = data_file.parent
    roots = [here] if root is None else [Path(str(root)), here / str(root), here]
    # Roboflow writes ../train/images into a data.yaml that lies beside train/
    values = [value, value.removeprefix("../")]
    return next((place for name in values for base in roots if (place := base / name).exists()), None)


def _class_names(data_file: Path) -> list[str]:
    names = _read_data_file(data_file)["names"]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(f"{data_file}: 'names' must number its classes from 0 without gaps, not {list(names)[:8]}.")
        names = [names[index] for index in range(len(names))]
    return [str(name) for name in names]


def _read_data_file(data_file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(_text(data_file))
    except yaml.YAMLError as error:
        raise DataError(f"{data_file} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("names"), (list, dict)) or not content["names"]:
        raise DataError(f"{data_file} has no 'names' of classes, so it is no YOLO data file.")
    return content


def _is_data_file(path: Path) -> bool:
    try:
        content = _read_data_file(path)
    except DataError:  # some other YAML file
        return False
    return "train" in content or "val" in content


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}.") from error

# SPDX-License-Identifier: Apache-2.0
"""The rules of a sound annotation, each of them once: the loader stops at the first fault, the doctor counts them all.

Every function hands what it finds wrong to `on_fault`, which may raise, and goes on with what is sound. Here is only
what makes an entry useless; what is merely unlikely to be meant is a matter of the doctor's own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.reference.rle import decode_counts

Segmentation = tuple[NDArray[np.float64], ...] | dict[str, Any]  # polygons as flat x, y lists, or run lengths
Content = dict[str, Any]  # of a COCO file: lists of `images`, `annotations` and `categories`
Entry = Mapping[str, Any]  # of one of the lists
FAR = 100  # image sides


@dataclass(frozen=True)
class Fault:
    """Something that makes an entry useless."""

    kind: str  # of doctor.findings.KINDS
    sentence: str  # names the entry, not the annotation file


OnFault = Callable[[Fault], None]


def refuse(annotations: Path) -> OnFault:
    """Returns what a reader does that takes no fault: it raises a DataError that begins with the annotation file."""

    def on_fault(fault: Fault) -> None:
        raise DataError(f"{annotations}: {fault.sentence}")

    return on_fault


@dataclass(frozen=True)
class Entries:
    """The sound entries of a COCO content. Where entries share an id the first one counts."""

    categories: dict[int, str]  # names
    images: dict[int, Entry]  # those with a file name and a size
    annotations: dict[int, list[Entry]]  # image id -> those of a known category


@dataclass(frozen=True)
class Sound:
    """What is sound in an annotation."""

    mask: Segmentation | None
    box_xyxy: NDArray[np.float64] | None  # None also where none is given


def place_of(image: Entry, annotation: Entry | None = None) -> str:
    """Names an image, or one of its annotations: by the line that it stands in, where it has been converted."""
    where = f"image id {image['id']} ({image['file_name']})"
    if annotation is None:
        return where
    return str(annotation.get("source") or f"annotation id {annotation['id']} of {where}")


def check_entries(content: Content, on_fault: OnFault) -> Entries:
    """Checks ids, references and fields; what an annotation holds is for check_annotation."""
    categories = {
        key: str(entry.get("name", key)) for key, entry in _by_id(content["categories"], "category", on_fault).items()
    }
    listed = _by_id(content["images"], "image", on_fault)
    images = {key: entry for key, entry in listed.items() if _is_image(entry, on_fault)}
    annotations: dict[int, list[Entry]] = {image_id: [] for image_id in images}
    for key, entry in _by_id(content["annotations"], "annotation", on_fault).items():
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        if not isinstance(image_id, Hashable) or image_id not in listed:
            says = f"annotation id {key} is of image id {image_id}, which is not in 'images'."
            on_fault(Fault("unknown-image-id", says))
        elif not isinstance(category_id, Hashable) or category_id not in categories:
            says = f"annotation id {key} is of category id {category_id}, which is not in 'categories'."
            on_fault(Fault("unknown-category-id", says))
        elif image_id in images:
            annotations[image_id].append(entry)
    return Entries(categories, images, annotations)


def check_presence(images: Mapping[int, Entry], folder: Path, on_fault: OnFault) -> dict[int, Path]:
    """Finds the files of images, by image id, among those that are there; what is in them is not looked at."""
    listings: dict[Path, set[str]] = {}  # one directory listing instead of one stat per image
    paths: dict[int, Path] = {}
    for image_id, entry in images.items():
        path = folder / entry["file_name"]
        if path.parent not in listings:
            listings[path.parent] = {f.name for f in path.parent.iterdir()} if path.parent.is_dir() else set()
        if path.name in listings[path.parent]:
            paths[image_id] = path
        else:
            says = f"image id {image_id} is the file {entry['file_name']}, which is not in {folder}."
            on_fault(Fault("missing-image", says))
    return paths


def check_size(where: str, found_hw: tuple[int, int], image_hw: tuple[int, int], on_fault: OnFault) -> None:
    """Compares the size of an image's file with the one that its annotations were made on."""
    if found_hw != image_hw:
        found, given = (f"{width} x {height}" for height, width in (found_hw, image_hw))
        says = f"{where} is {found} pixels, but was annotated as {given}; its masks would not fit."
        on_fault(Fault("size-mismatch", says))


def check_annotation(annotation: Entry, image: Entry, on_fault: OnFault) -> Sound:
    """Checks one annotation of an image: its mask, its box, and whether they lie in the image at all."""
    where, size_hw = place_of(image, annotation), (image["height"], image["width"])
    mask = check_mask(annotation.get("segmentation"), size_hw, where, on_fault)
    box = check_box(annotation.get("bbox"), where, on_fault)
    extent = next((one for one in (box, outline_extent(mask)) if one is not None and is_outside(one, size_hw)), None)
    if extent is not None:
        on_fault(Fault("outside-image", f"{where} lies outside of its image: {in_numbers(extent, size_hw)}."))
    if annotation.get("iscrowd", 0) not in (0, 1):
        on_fault(Fault("bad-crowd", f"{where} has an 'iscrowd' that is neither 0 nor 1."))
    return Sound(mask, box)


def check_mask(value: Any, size_hw: tuple[int, int], where: str, on_fault: OnFault) -> Segmentation | None:
    """Returns a 'segmentation' as polygons or run lengths, or None after a fault. `where` begins the sentences."""
    if isinstance(value, dict):
        return _check_runs(value, size_hw, where, on_fault)
    if not isinstance(value, list) or not any(value):
        says = f"{where} has no 'segmentation'; CenterMask learns masks, boxes alone are not enough."
        on_fault(Fault("empty-segmentation", says))
        return None
    polygons = []
    for part in value:
        if isinstance(part, list) and (len(part) < 6 or len(part) % 2):
            says = f"{where} has a polygon of {len(part)} numbers; it needs x and y of at least 3 points."
            on_fault(Fault("short-polygon", says))
        elif (numbers := finite_numbers(part)) is None:
            on_fault(Fault("bad-polygon", f"{where} has a polygon that is no flat list of finite numbers."))
        elif (reach := np.abs(numbers).max()) > FAR * max(size_hw):
            # farther than a slip of the hand: pycocotools walks along the outline, and 1e9 pixels fill the memory
            says = f"{where} has a polygon far from its image, with coordinates up to {reach:g}; x and y are pixels."
            on_fault(Fault("outside-image", says))
        else:
            polygons.append(numbers)
    return tuple(polygons) if len(polygons) == len(value) else None


def check_box(value: Any, where: str, on_fault: OnFault) -> NDArray[np.float64] | None:
    """Returns a 'bbox' x, y, width, height as xyxy; None where none is given, and after a fault."""
    if value is None:
        return None
    numbers = finite_numbers(value)
    if numbers is None or len(numbers) != 4:
        on_fault(Fault("bad-box", f"{where} has a 'bbox' that is not four finite numbers: x, y, width, height."))
        return None
    return np.concatenate([numbers[:2], numbers[:2] + numbers[2:]])


def outline_extent(mask: Segmentation | None) -> NDArray[np.float64] | None:
    """Returns xyxy around polygons; None for run lengths, which cannot leave their image."""
    if not isinstance(mask, tuple):
        return None
    points = np.concatenate(mask).reshape(-1, 2)
    return np.concatenate([points.min(0), points.max(0)])


def in_numbers(extent: NDArray[np.float64], size_hw: tuple[int, int]) -> str:
    """Writes an extent and its image out, for a sentence."""
    x0, y0, x1, y1 = extent.tolist()
    return f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}, image {size_hw[1]} x {size_hw[0]} pixels"


def finite_numbers(values: Any) -> NDArray[np.float64] | None:
    """Returns a flat list of finite numbers as an array; None for anything else."""
    try:
        array = np.array(values)
    except ValueError:  # lists of different lengths
        return None
    flat = array.ndim == 1 and array.dtype.kind in "iuf"  # text, true and null would make it another kind
    return array.astype(np.float64) if flat and np.isfinite(array).all() else None


def is_outside(extent: NDArray[np.float64], size_hw: tuple[int, int]) -> bool:
    """Says whether an extent as xyxy and an image have no pixel in common."""
    x0, y0, x1, y1 = extent.tolist()
    return bool(x0 >= size_hw[1] or y0 >= size_hw[0] or x1 <= 0 or y1 <= 0)


def _by_id(entries: list[Any], what: str, on_fault: OnFault) -> dict[int, Entry]:
    found: dict[int, Entry] = {}
    for entry in entries:
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, int):
            says = f"there is an entry of the {what} list without a whole number as 'id': {str(entry)[:80]}."
            on_fault(Fault("bad-entry", says))
        elif key in found:
            on_fault(Fault(f"duplicate-{what}-id", f"{what} id {key} is there twice; ids must be unique."))
        else:
            found[key] = entry
    return found


def _is_image(entry: Entry, on_fault: OnFault) -> bool:
    name, height, width = entry.get("file_name"), entry.get("height"), entry.get("width")
    if not isinstance(name, str) or not isinstance(height, int) or not isinstance(width, int):
        on_fault(Fault("bad-entry", f"image id {entry['id']} lacks 'file_name', 'height' or 'width'."))
        return False
    if height < 1 or width < 1:
        on_fault(Fault("bad-entry", f"image id {entry['id']} has a size of {width} x {height} pixels."))
        return False
    return True


def _check_runs(value: Entry, size_hw: tuple[int, int], where: str, on_fault: OnFault) -> Segmentation | None:
    size, counts = value.get("size"), value.get("counts")
    if size != list(size_hw):
        says = f"{where} has a mask of size {size}, but the image is {list(size_hw)}."
        on_fault(Fault("rle-size", says))
        return None
    runs = _run_lengths(counts)
    if runs is None:
        on_fault(Fault("damaged-rle", f"{where} has a mask without run lengths in 'counts'."))
    elif (runs < 0).any():
        on_fault(Fault("damaged-rle", f"{where} has run lengths below 0."))
    elif (total := int(runs.sum())) != size_hw[0] * size_hw[1]:
        # pycocotools fails at others or never ends, or leaves the rest empty and says nothing
        says = f"{where} has run lengths for {total} of {size_hw[0] * size_hw[1]} pixels."
        on_fault(Fault("damaged-rle", says))
    else:
        return {"size": size, "counts": counts}
    return None


def _run_lengths(counts: Any) -> NDArray[np.int64] | None:
    """Returns the run lengths of a list or of COCO's string; None for what is neither."""
    if isinstance(counts, list):
        return np.array(counts, np.int64) if all(isinstance(run, int) for run in counts) else None
    try:
        return decode_counts(counts) if isinstance(counts, str) else None
    except DataError:
        return None

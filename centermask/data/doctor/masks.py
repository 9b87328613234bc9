# SPDX-License-Identifier: Apache-2.0
"""The annotations of one split: polygons, run lengths, boxes, areas, and objects annotated twice.

Masks are decoded by pycocotools, as in training: its area and its box are what an entry's own are held against.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from centermask.data.coco import finite_numbers, is_far
from centermask.data.doctor.entries import Entries, Entry
from centermask.data.doctor.findings import Findings
from centermask.data.doctor.polygons import crosses_itself
from centermask_runtime.errors import DataError
from centermask_runtime.reference.rle import decode_counts

BOX_IOU = 0.8  # between an entry's box and its mask's, under which they do not fit ...
BOX_PIXELS = 3.0  # ... if a side also lies this far off: outlines and pixels of small objects differ by as much
AREA_RATIO = 0.8  # smaller area by larger area, under which they do not fit ...
AREA_PIXELS = 50.0  # ... if they differ by as much, too
BEYOND_PIXELS = 1.5  # that a box or an outline may lie beyond its image
SAME_OBJECT = 0.95  # mask IoU from which two annotations are taken for one object

Runs = dict[str, Any]


def check_masks(entries: Entries, image_id: int, findings: Findings) -> None:
    """Examines the annotations of one image."""
    image = entries.images[image_id]
    size_hw = image["height"], image["width"]
    decoded: list[tuple[Entry, Runs]] = []
    for entry in entries.annotations[image_id]:
        where = entries.where(image_id, entry)
        box = _box(entry, where, findings)
        runs = _runs(entry, size_hw, where, findings)
        outline = _extent(entry) if runs is not None else None
        for extent in (box, outline):
            if extent is not None and _leaves(extent, size_hw, where, findings):
                break
        if runs is None:
            continue
        if not (area := float(coco_mask.area(runs))):
            findings.add("zero-area-mask", where)
            continue
        if box is not None:
            _check_box(box, runs, where, findings)
        _check_area(entry, area, where, findings)
        decoded.append((entry, runs))
    _check_twice(entries, image_id, decoded, findings)


def _runs(entry: Entry, size_hw: tuple[int, int], where: str, findings: Findings) -> Runs | None:
    """The mask as run lengths, by pycocotools; None after a finding that forbids them."""
    value = entry.get("segmentation")
    if isinstance(value, dict):
        return _from_run_lengths(value, size_hw, where, findings)
    if not isinstance(value, list) or not any(value):
        findings.add("empty-segmentation", where)
        return None
    polygons = []
    for part in value:
        if isinstance(part, list) and (len(part) < 6 or len(part) % 2):
            findings.add("short-polygon", f"{where}: {len(part)} numbers")
        elif (numbers := finite_numbers(part)) is None:
            findings.add("bad-polygon", where)
        else:
            polygons.append(numbers)
    if len(polygons) < len(value):
        return None
    if any(is_far(polygon, size_hw) for polygon in polygons):
        findings.add("outside-image", f"{where}: coordinates up to {max(np.abs(one).max() for one in polygons):g}")
        return None
    if any(crosses_itself(polygon.reshape(-1, 2)) for polygon in polygons):
        findings.add("self-crossing-polygon", where)
    merged: Runs = coco_mask.merge(coco_mask.frPyObjects(polygons, *size_hw))
    return merged


def _from_run_lengths(value: Runs, size_hw: tuple[int, int], where: str, findings: Findings) -> Runs | None:
    size, counts = value.get("size"), value.get("counts")
    if size != list(size_hw):
        findings.add("rle-size", f"{where}: {size}, image {list(size_hw)}")
        return None
    runs = _lengths(counts)
    # all of the image's pixels: pycocotools leaves the rest empty and says nothing where the lengths end early
    if runs is None or (runs < 0).any() or runs.sum() != size_hw[0] * size_hw[1]:
        findings.add("damaged-rle", where)
        return None
    compressed: Runs = coco_mask.frPyObjects(value, *size_hw) if isinstance(counts, list) else value
    return compressed


def _lengths(counts: Any) -> NDArray[np.int64] | None:
    """Run lengths of a list or of COCO's string; None for what is neither."""
    if isinstance(counts, list):
        return np.array(counts, np.int64) if all(isinstance(run, int) for run in counts) else None
    try:
        return decode_counts(counts) if isinstance(counts, str) else None
    except DataError:
        return None


def _box(entry: Entry, where: str, findings: Findings) -> NDArray[np.float64] | None:
    """The entry's box as xyxy, if it has one."""
    if (value := entry.get("bbox")) is None:
        return None
    numbers = finite_numbers(value)
    if numbers is None or len(numbers) != 4:
        findings.add("bad-box", where)
        return None
    return np.concatenate([numbers[:2], numbers[:2] + numbers[2:]])


def _extent(entry: Entry) -> NDArray[np.float64] | None:
    """xyxy around the polygons; None for run lengths, which cannot leave their image."""
    if isinstance(entry["segmentation"], dict):
        return None
    points = np.concatenate([np.asarray(part, np.float64).reshape(-1, 2) for part in entry["segmentation"]])
    return np.concatenate([points.min(0), points.max(0)])


def _leaves(extent: NDArray[np.float64], size_hw: tuple[int, int], where: str, findings: Findings) -> bool:
    x0, y0, x1, y1 = extent.tolist()
    height, width = size_hw
    numbers = f"{where}: x {x0:g} to {x1:g}, y {y0:g} to {y1:g}, image {width} x {height}"
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        findings.add("outside-image", numbers)
    elif max(-x0, -y0, x1 - width, y1 - height) > BEYOND_PIXELS:
        findings.add("beyond-image", numbers)
    else:
        return False
    return True


def _check_box(box: NDArray[np.float64], runs: Runs, where: str, findings: Findings) -> None:
    tight = np.asarray(coco_mask.toBbox(runs), np.float64)
    given = np.concatenate([box[:2], box[2:] - box[:2]])
    overlap = float(coco_mask.iou(given[None], tight[None], [0])[0, 0]) if (given[2:] > 0).all() else 0.0
    apart = np.abs(box - np.concatenate([tight[:2], tight[:2] + tight[2:]])).max()
    if overlap < BOX_IOU and apart > BOX_PIXELS:
        shown = ", ".join(f"{value:g}" for value in given)
        mask = ", ".join(f"{value:g}" for value in tight)
        findings.add("box-mask-mismatch", f"{where}: box [{shown}], mask [{mask}], IoU {overlap:.2f}")


def _check_area(entry: Entry, area: float, where: str, findings: Findings) -> None:
    given = entry.get("area")
    if not isinstance(given, (int, float)) or entry.get("iscrowd"):  # COCO's own crowds count another way
        return
    if abs(given - area) > AREA_PIXELS and min(given, area) < AREA_RATIO * max(given, area):
        findings.add("area-mismatch", f"{where}: {given:g}, mask {area:g} pixels")


def _check_twice(entries: Entries, image_id: int, decoded: list[tuple[Entry, Runs]], findings: Findings) -> None:
    single = [(entry, runs) for entry, runs in decoded if not entry.get("iscrowd")]
    if len(single) < 2:
        return
    masks = [runs for _, runs in single]
    overlap = np.triu(coco_mask.iou(masks, masks, [0] * len(masks)), 1)
    for one, other in zip(*np.nonzero(overlap >= SAME_OBJECT), strict=True):
        pair = [single[int(index)][0] for index in (one, other)]
        names = " and ".join(f"{entry['id']} ({entries.categories[entry['category_id']]})" for entry in pair)
        findings.add(
            "duplicate-object",
            f"{entries.where(image_id)}: annotation ids {names}, mask IoU {overlap[one, other]:.2f}",
        )

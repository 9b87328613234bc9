# SPDX-License-Identifier: Apache-2.0
"""The annotations of one split: what is wrong with them, and what is hardly meant about masks, boxes and areas.

Masks are decoded by pycocotools, as in training: its area and its box are what an entry's own are held against.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from centermask.data.checks import Entry, check_annotation, in_numbers, is_outside, outline_extent
from centermask.data.doctor.entries import SplitEntries
from centermask.data.doctor.findings import Findings
from centermask.data.doctor.polygons import crosses_itself
from centermask.data.segmentation import Runs, as_runs

BOX_IOU = 0.8  # between an entry's box and its mask's, under which they do not fit ...
BOX_PIXELS = 3.0  # ... if a side also lies this far off: outlines and pixels of small objects differ by as much
AREA_RATIO = 0.8  # smaller area by larger area, under which they do not fit ...
AREA_PIXELS = 50.0  # ... if they differ by as much, too
BEYOND_PIXELS = 1.5  # that a box or an outline may lie beyond its image
SAME_OBJECT = 0.95  # mask IoU from which two annotations are taken for one object


def examine_masks(split: SplitEntries, image_id: int, findings: Findings) -> None:
    """Examines the annotations of one image."""
    image = split.entries.images[image_id]
    size_hw = image["height"], image["width"]
    decoded: list[tuple[Entry, Runs]] = []
    for entry in split.entries.annotations[image_id]:
        where = split.where(image_id, entry)
        sound = check_annotation(entry, image, findings.of_split(split.name))
        extents = [one for one in (sound.box_xyxy, outline_extent(sound.mask)) if one is not None]
        if not any(is_outside(one, size_hw) for one in extents):  # which is a fault, found already
            beyond = next((one for one in extents if _beyond(one, size_hw) > BEYOND_PIXELS), None)
            if beyond is not None:
                findings.add("beyond-image", f"{where}: {in_numbers(beyond, size_hw)}")
        if sound.mask is None:
            continue
        if isinstance(sound.mask, tuple) and any(crosses_itself(outline.reshape(-1, 2)) for outline in sound.mask):
            findings.add("self-crossing-polygon", where)
        runs = as_runs(sound.mask, size_hw)
        if not (area := float(coco_mask.area(runs))):
            findings.add("zero-area-mask", where)
            continue
        if sound.box_xyxy is not None:
            _compare_box(sound.box_xyxy, runs, where, findings)
        _compare_area(entry, area, where, findings)
        decoded.append((entry, runs))
    _find_same_objects(split, image_id, decoded, findings)


def _beyond(extent: NDArray[np.float64], size_hw: tuple[int, int]) -> float:
    """Returns how many pixels an extent reaches beyond its image, on the side where it is farthest."""
    x0, y0, x1, y1 = extent.tolist()
    return float(max(-x0, -y0, x1 - size_hw[1], y1 - size_hw[0]))


def _compare_box(box: NDArray[np.float64], runs: Runs, where: str, findings: Findings) -> None:
    tight = np.asarray(coco_mask.toBbox(runs), np.float64)
    given = np.concatenate([box[:2], box[2:] - box[:2]])
    overlap = float(coco_mask.iou(given[None], tight[None], [0])[0, 0]) if (given[2:] > 0).all() else 0.0
    apart = np.abs(box - np.concatenate([tight[:2], tight[:2] + tight[2:]])).max()
    if overlap < BOX_IOU and apart > BOX_PIXELS:
        shown = ", ".join(f"{value:g}" for value in given)
        mask = ", ".join(f"{value:g}" for value in tight)
        findings.add("box-mask-mismatch", f"{where}: box [{shown}], mask [{mask}], IoU {overlap:.2f}")


def _compare_area(entry: Entry, area: float, where: str, findings: Findings) -> None:
    given = entry.get("area")
    if not isinstance(given, (int, float)) or entry.get("iscrowd"):  # COCO's own crowds count another way
        return
    if abs(given - area) > AREA_PIXELS and min(given, area) < AREA_RATIO * max(given, area):
        findings.add("area-mismatch", f"{where}: {given:g}, mask {area:g} pixels")


def _find_same_objects(
    split: SplitEntries, image_id: int, decoded: list[tuple[Entry, Runs]], findings: Findings
) -> None:
    single = [(entry, runs) for entry, runs in decoded if not entry.get("iscrowd")]
    if len(single) < 2:
        return
    masks = [runs for _, runs in single]
    overlap = np.triu(coco_mask.iou(masks, masks, [0] * len(masks)), 1)
    for one, other in zip(*np.nonzero(overlap >= SAME_OBJECT), strict=True):
        pair = [single[int(index)][0] for index in (one, other)]
        names = " and ".join(f"{entry['id']} ({split.entries.categories[entry['category_id']]})" for entry in pair)
        findings.add(
            "duplicate-object",
            f"{split.where(image_id)}: annotation ids {names}, mask IoU {overlap[one, other]:.2f}",
        )

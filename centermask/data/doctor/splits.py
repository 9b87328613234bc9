# SPDX-License-Identifier: Apache-2.0
"""The splits held against each other: the same image in two of them, and how the classes are spread.

Nearly equal images are found by a perceptual hash (pHash: the signs of the 8 x 8 lowest cosines of a 32 x 32 thumbnail
around their median) and confirmed on the thumbnails. That is a hint and no proof.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask.data.doctor.entries import SplitEntries
from centermask.data.doctor.files import Print
from centermask.data.doctor.findings import Findings

NEAR_BITS = 8  # of 64 that may differ
NEAR_CORRELATION = 0.97  # of the thumbnails
FLAT = 5.0  # standard deviation of grey values, below which a thumbnail says too little
RARE = 10  # objects in train
_LOW = 8  # cosines along each side
_ROWS = 4096  # images compared with all others at a time


def find_leakage(prints: dict[str, list[Print]], findings: Findings) -> None:
    """Finds equal files within and across splits, and nearly equal images across them."""
    copies: dict[bytes, list[tuple[str, Print]]] = defaultdict(list)
    for split, found in prints.items():
        for one in found:
            copies[one.content].append((split, one))
    for same in copies.values():
        first_of: dict[str, Print] = {}
        for split, one in same:
            if split in first_of:
                findings.add("duplicate-image", f"{first_of[split].where} and {one.where}")
            first_of.setdefault(split, one)
        for other in list(first_of.values())[1:]:
            findings.add("leakage", f"{same[0][1].where} and {other.where}")
    for one_split, other_split in combinations(prints, 2):
        for one, other in near_duplicates(_textured(prints[one_split]), _textured(prints[other_split])):
            if one.content != other.content:
                findings.add("near-duplicate", f"{one.where} and {other.where}")


def compare_classes(splits: Sequence[SplitEntries], findings: Findings) -> dict[str, Counter[str]]:
    """Counts the objects of each class in each split, with findings about how they are spread."""
    counts: dict[str, Counter[str]] = {}
    for split in splits:
        categories = split.entries.categories
        counted = Counter(dict.fromkeys(categories.values(), 0))
        for found in split.entries.annotations.values():
            counted.update(categories[one["category_id"]] for one in found if one.get("iscrowd") != 1)
        counts[split.name] = counted
    for split in splits[1:]:
        first, categories = splits[0].entries.categories, split.entries.categories
        if categories != first:
            differ = set(categories.items()) ^ set(first.items())
            shown = ", ".join(f"{number} {name}" for number, name in sorted(differ)[:4])
            findings.add("class-lists-differ", f"{splits[0].name} and {split.name}: {shown}")
    for name in dict.fromkeys(name for counted in counts.values() for name in counted):
        having = [which for which, counted in counts.items() if counted[name]]
        if not having:
            findings.add("class-unused", name)
            continue
        for which in counts:
            if which not in having:
                findings.add("class-missing", f"{which}: {name} ({counts[having[0]][name]} in {having[0]})")
        if "train" in having and counts["train"][name] < RARE:
            findings.add("class-rare", f"train: {name}, {counts['train'][name]} objects")
    return counts


def perceptual_hash(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Returns the hash bool [64] of a grey thumbnail."""
    low = cv2.dct(thumbnail.astype(np.float32))[:_LOW, :_LOW].ravel()
    return np.asarray(low > np.median(low[1:]), np.bool_)  # without the mean brightness


def _textured(prints: list[Print]) -> list[Print]:
    return [one for one in prints if one.thumbnail.std() >= FLAT]


def near_duplicates(ones: list[Print], others: list[Print]) -> list[tuple[Print, Print]]:
    """Returns the pairs, of one list and of the other, whose hashes and thumbnails agree."""
    if not ones or not others:
        return []
    signs = [np.array([perceptual_hash(one.thumbnail) for one in found]) * 2.0 - 1 for found in (ones, others)]
    pairs = []
    for row in range(0, len(ones), _ROWS):
        differing = (64 - signs[0][row : row + _ROWS] @ signs[1].T) / 2
        for left, right in zip(*np.nonzero(differing <= NEAR_BITS), strict=True):
            one, other = ones[row + int(left)], others[int(right)]
            if np.corrcoef(one.thumbnail.ravel(), other.thumbnail.ravel())[0, 1] >= NEAR_CORRELATION:
                pairs.append((one, other))
    return pairs

# SPDX-License-Identifier: Apache-2.0
"""What compare draws: A, B, and where their masks differ, side by side under a line of text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask.evaluation.pictures import beside
from centermask_export.checks.objects import FrameDifference
from centermask_runtime.instances import Instances
from centermask_runtime.reference import overlay

ONLY_A_BGR, ONLY_B_BGR = overlay.PALETTE_BGR[5], overlay.PALETTE_BGR[1]  # vermilion and sky blue
MOST_LABELS = 10  # with more, names hide what differs
SMALLEST_SIDE = 320  # narrower frames are enlarged, so that the titles fit


def side_by_side(
    frame: NDArray[np.uint8], a: Instances, b: Instances, difference: FrameDifference, names: tuple[str, str]
) -> NDArray[np.uint8]:
    """Frame uint8 [H, W, 3] BGR -> one picture of three panels."""
    only_a, only_b = mask_differences(a, b, difference)
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    changed = np.asarray(cv2.addWeighted(grey, 0.6, np.zeros_like(grey), 0.4, 0), np.uint8)
    changed[only_a], changed[only_b] = ONLY_A_BGR, ONLY_B_BGR
    drawn = [
        overlay.draw(frame, replace(found, ids=numbers), overlay.DrawStyle(labels=len(found) <= MOST_LABELS))
        for found, numbers in zip((a, b), _numbers(difference), strict=True)
    ]
    alone = len(difference.only_a) + len(difference.only_b)
    pixels = int(only_a.sum() + only_b.sum())
    titles = (
        f"A {Path(names[0]).name}: {len(a)} objects",
        f"B {Path(names[1]).name}: {len(b)} objects",
        f"{pixels} pixels differ, {alone} objects alone",
    )
    return beside([_enlarged(picture) for picture in (*drawn, changed)], titles)


def _numbers(difference: FrameDifference) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same number, and so the same colour, for an object in A and its partner in B."""
    count = len(difference.pairs)
    a = {pair.row_a: number for number, pair in enumerate(difference.pairs)}
    b = {pair.row_b: number for number, pair in enumerate(difference.pairs)}
    a |= {row: count + number for number, row in enumerate(difference.only_a)}
    b |= {row: count + len(difference.only_a) + number for number, row in enumerate(difference.only_b)}
    return np.array([a[row] for row in range(len(a))], np.int64), np.array([b[row] for row in range(len(b))], np.int64)


def mask_differences(
    a: Instances, b: Instances, difference: FrameDifference
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels [H, W] in an object's mask of A that its partner in B lacks, and the other way; with no partner, all."""
    only_a, only_b = np.zeros(a.frame_hw, np.bool_), np.zeros(a.frame_hw, np.bool_)
    for pair in difference.pairs:
        one, other = a.masks.canvas(pair.row_a), b.masks.canvas(pair.row_b)
        only_a |= one & ~other
        only_b |= other & ~one
    for row in difference.only_a:
        only_a |= a.masks.canvas(row)
    for row in difference.only_b:
        only_b |= b.masks.canvas(row)
    return only_a, only_b


def _enlarged(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = max(1, -(-SMALLEST_SIDE // picture.shape[1]))
    return np.repeat(np.repeat(picture, scale, axis=0), scale, axis=1)

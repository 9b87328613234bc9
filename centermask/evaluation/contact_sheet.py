# SPDX-License-Identifier: Apache-2.0
"""Several pictures on one sheet, each fitted into an equal cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.geometry import Letterbox

CELL_HW = (540, 720)
GAP = 8
BACKGROUND = 24


def contact_sheet(
    pictures: Sequence[NDArray[np.uint8]], columns: int = 3, cell_hw: tuple[int, int] = CELL_HW
) -> NDArray[np.uint8]:
    """Pictures uint8 [H, W, 3] of any size, row by row -> one picture."""
    assert pictures
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    height, width = cell_hw
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), BACKGROUND, np.uint8)
    for number, picture in enumerate(pictures):
        place = Letterbox.fit((picture.shape[0], picture.shape[1]), cell_hw)
        top = GAP + (number // columns) * (height + GAP) + place.offset_xy[1]
        left = GAP + (number % columns) * (width + GAP) + place.offset_xy[0]
        size = place.resized_hw[1], place.resized_hw[0]
        shrinks = place.scale_xy[0] < 1
        fitted = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        sheet[top : top + size[1], left : left + size[0]] = fitted
    return sheet

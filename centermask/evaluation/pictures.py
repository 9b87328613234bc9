# SPDX-License-Identifier: Apache-2.0
"""Several pictures as one: on a sheet of equal cells, or side by side under a line of text each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.geometry import Letterbox
from centermask_runtime.reference.overlay import FONT

Picture = NDArray[np.uint8]  # [H, W, 3] BGR

CELL_HW = (540, 720)
LEAST_SIDE, MOST_SIDE = 320, 480  # pixels, of the longer side of a square sheet's cells
GAP = 8
CAPTION_HEIGHT = 26
BACKGROUND, TEXT = 24, 235  # grey values


def contact_sheet(pictures: Sequence[Picture], columns: int = 3, cell_hw: tuple[int, int] = CELL_HW) -> Picture:
    """Puts pictures of any size on a sheet, row by row, each fitted into an equal cell."""
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


def square_sheet(pictures: Sequence[Picture]) -> Picture:
    """Puts pictures of any size on a sheet of as many columns as rows, with cells of the shape of the largest."""
    largest = [max(one.shape[axis] for one in pictures) for axis in (0, 1)]
    longer = max(largest)
    height, width = (max(round(side * min(max(longer, LEAST_SIDE), MOST_SIDE) / longer), 1) for side in largest)
    return contact_sheet(pictures, math.ceil(math.sqrt(len(pictures))), (height, width))


def beside(pictures: Sequence[Picture], captions: Sequence[str]) -> Picture:
    """Puts pictures of one height side by side, each under its caption."""
    gap = np.full((pictures[0].shape[0] + CAPTION_HEIGHT, GAP, 3), BACKGROUND, np.uint8)
    row: list[Picture] = []
    for picture, caption in zip(pictures, captions, strict=True):
        row += [gap, captioned(picture, caption)]
    return np.hstack(row[1:])


def captioned(picture: Picture, caption: str) -> Picture:
    """Puts a line of text over a picture, which becomes CAPTION_HEIGHT higher. OpenCV's font has ASCII alone."""
    strip = np.full((CAPTION_HEIGHT, picture.shape[1], 3), BACKGROUND, np.uint8)
    text = caption.encode("ascii", "replace").decode()
    cv2.putText(strip, text, (6, 18), FONT, 0.5, (TEXT, TEXT, TEXT), 1, cv2.LINE_AA)
    return np.vstack([strip, picture])


def encode(picture: Picture, suffix: str) -> bytes:
    """Returns a picture as the content of a .jpg or .png file."""
    done, content = cv2.imencode(suffix, picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done, picture.shape
    return content.tobytes()

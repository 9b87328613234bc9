# SPDX-License-Identifier: Apache-2.0
"""How results are drawn: masks blended inside their rectangles, one-pixel contours, boxes, and names with scores.

Colours are Okabe and Ito's palette and Tol's bright scheme, made for people with any colour vision. An object's colour
is the palette's at its number modulo the palette's length, and its number is

    with track ids             its id
    with several classes       its label
    else                       that of its place, cell_x + 5 * cell_y, where cells are squares of 2^n pixels, the
                               largest that fit into the shorter side w of the mask's rectangle x0, y0, x1, y1:
                               n = floor(log2(max(w, 1))), cell_x = (x0 + x1) // 2 >> n, cell_y = (y0 + y1) // 2 >> n

all in integers, so that every executor paints the same bytes. So a colour does not depend on the score, nor on what
else was found, and neighbours of like size differ. The best object is drawn last, on top. With more than 50 objects
labels would hide the image, so they are left out; of fewer, a label is left out where better objects' labels leave it
no place at its box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.arguments import check_flags
from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.errors import UsageError
from centermask_runtime.images import check_frame

ALPHA = 0.45
MOST_LABELS = 50
ROW_STEP = 5  # of the numbers of cells, from one row to the next: as in overlay.cu
FAR = 1 << 20  # pixels; of a box that goes further, so much is drawn
FONT = cv2.FONT_HERSHEY_SIMPLEX
PALETTE_BGR = (
    (0, 159, 230),
    (233, 180, 86),
    (115, 158, 0),
    (66, 228, 240),
    (178, 114, 0),
    (0, 94, 213),
    (167, 121, 204),
    (119, 102, 238),
    (238, 204, 102),
    (51, 136, 34),
    (68, 187, 204),
    (170, 68, 119),
)


@dataclass(frozen=True)
class DrawStyle:
    """What of the instances is drawn. Raises UsageError for what is neither True nor False."""

    masks: bool = True
    boxes: bool = True
    labels: bool = True  # track ids and class names
    scores: bool = True  # in the labels; False for ground truth

    def __post_init__(self) -> None:
        check_flags(masks=self.masks, boxes=self.boxes, labels=self.labels, scores=self.scores)


DEFAULT_STYLE = DrawStyle()


class Drawable(Protocol):
    """What of Instances is drawn. Their class stands above this file, since it has a method that draws."""

    def __len__(self) -> int: ...
    @property
    def frame_hw(self) -> tuple[int, int]: ...
    @property
    def boxes(self) -> NDArray[np.float32]: ...
    @property
    def scores(self) -> NDArray[np.float32]: ...
    @property
    def labels(self) -> NDArray[np.int32]: ...
    @property
    def masks(self) -> BoxMasks: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def names(self) -> list[str]: ...
    @property
    def ids(self) -> NDArray[np.int64] | None: ...


def draw(frame: NDArray[np.uint8], instances: Drawable, style: DrawStyle = DEFAULT_STYLE) -> NDArray[np.uint8]:
    """Frame uint8 [H, W, 3] BGR -> a new frame with the instances. Raises DataError for another frame than theirs."""
    check_frame(frame, instances.frame_hw)
    if not isinstance(style, DrawStyle):
        raise UsageError(f"style must be a DrawStyle, not {type(style).__name__}.")
    drawn = frame.copy()
    colours = _colours(instances)
    worst_first = range(len(instances) - 1, -1, -1)
    if style.masks:
        for index in worst_first:
            _blend(drawn, instances, index, colours[index])
    thickness = max(round(min(instances.frame_hw) / 400), 1)
    if style.boxes:
        for index in worst_first:
            x1, y1, x2, y2 = (round(float(edge)) for edge in np.clip(instances.boxes[index], -FAR, FAR))
            cv2.rectangle(drawn, (x1, y1), (max(x2 - 1, x1), max(y2 - 1, y1)), colours[index], thickness)
    write_labels(drawn, instances, style)
    return drawn


def write_labels(drawn: NDArray[np.uint8], instances: Drawable, style: DrawStyle = DEFAULT_STYLE) -> None:
    """The text alone, onto the frame uint8 [H, W, 3], where the style has labels; kernels draw the rest."""
    if not style.labels or len(instances) > MOST_LABELS:
        return
    lettering = _Lettering.for_frame(instances.frame_hw)
    taken: list[_Plate] = []
    for index, colour in enumerate(_colours(instances)):
        text = _text(instances, index, style.scores)
        box = np.clip(instances.boxes[index], -FAR, FAR).tolist()
        plate = _free_plate(lettering.size(text), box, instances.frame_hw, taken)
        if plate is not None:
            taken.append(plate)
            lettering.write(drawn, text, plate, colour)


def colour_numbers(instances: Drawable) -> NDArray[np.int32]:
    """The number of each object's colour in PALETTE_BGR, int32 [N], by the rule above."""
    if instances.ids is not None:
        numbers = instances.ids
    elif len(instances.class_names) > 1:
        numbers = instances.labels.astype(np.int64)
    else:
        numbers = np.array([_place_number(*rect) for rect in instances.masks.rects.tolist()], np.int64)
    return (numbers % len(PALETTE_BGR)).astype(np.int32)


def _place_number(x0: int, y0: int, x1: int, y1: int) -> int:
    shift = max(min(x1 - x0, y1 - y0), 1).bit_length() - 1
    return ((x0 + x1) // 2 >> shift) + ROW_STEP * ((y0 + y1) // 2 >> shift)


def _colours(instances: Drawable) -> list[tuple[int, int, int]]:
    return [PALETTE_BGR[number] for number in colour_numbers(instances).tolist()]


def _blend(drawn: NDArray[np.uint8], instances: Drawable, index: int, colour: tuple[int, int, int]) -> None:
    x0, y0, x1, y1 = instances.masks.rects[index].tolist()
    if x1 <= x0 or y1 <= y0:
        return
    mask = instances.masks.crop(index).view(np.uint8)
    region = drawn[y0:y1, x0:x1]
    tint = np.empty_like(region)
    cv2.rectangle(tint, (0, 0), (x1 - x0 - 1, y1 - y0 - 1), colour, cv2.FILLED)  # ten times as fast as tint[:] = colour
    cv2.copyTo(cv2.addWeighted(region, 1 - ALPHA, tint, ALPHA, 0), mask, region)
    inner = cv2.erode(mask, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    cv2.copyTo(tint, mask - inner, region)


def _text(instances: Drawable, index: int, scores: bool) -> str:
    """What is written: #id name score. OpenCV's fonts are ASCII's."""
    number = f"#{instances.ids[index]} " if instances.ids is not None and instances.ids[index] >= 0 else ""
    score = f" {float(instances.scores[index]):.2f}" if scores else ""
    return f"{number}{instances.names[index]}{score}".encode("ascii", "replace").decode()


class _Plate(NamedTuple):
    """A filled rectangle under a text, in pixels of the frame."""

    left: int
    top: int
    width: int
    height: int

    def meets(self, other: _Plate) -> bool:
        across = self.left < other.left + other.width and other.left < self.left + self.width
        return across and self.top < other.top + other.height and other.top < self.top + self.height


def _free_plate(
    size: tuple[int, int], box: list[float], frame_hw: tuple[int, int], taken: list[_Plate]
) -> _Plate | None:
    """The first place that no better object's label has; None where all have.

    In order: above the box, inside at its top, below it, inside at its bottom; at its left edge, then at its right one.
    """
    width, height = size
    x1, y1, x2, y2 = (round(edge) for edge in box)
    for x in (x1, x2 - width):
        left = max(min(x, frame_hw[1] - width), 0)
        for y in (y1 - height, y1, y2, y2 - height):
            top = max(min(y, frame_hw[0] - height), 0)
            plate = _Plate(left, top, width, height)
            fits = top == y or y == y1  # inside at the top is where a label goes when the frame ends
            if fits and not any(plate.meets(other) for other in taken):
                return plate
    return None


@dataclass(frozen=True)
class _Lettering:
    """Font size for a frame, and the writing itself."""

    scale: float
    thickness: int
    margin: int  # pixels

    @classmethod
    def for_frame(cls, frame_hw: tuple[int, int]) -> _Lettering:
        scale = min(max(min(frame_hw) / 1200, 0.35), 2.0)
        return cls(scale, max(round(scale * 1.6), 1), max(round(3 * scale), 2))

    def size(self, text: str) -> tuple[int, int]:
        """Width and height of the plate."""
        (width, height), baseline = cv2.getTextSize(text, FONT, self.scale, self.thickness)
        return width + 2 * self.margin, height + baseline + self.margin

    def write(self, drawn: NDArray[np.uint8], text: str, plate: _Plate, colour: tuple[int, int, int]) -> None:
        left, top, width, height = plate
        cv2.rectangle(drawn, (left, top), (left + width - 1, top + height - 1), colour, cv2.FILLED)
        blue, green, red = colour
        ink = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 110 else (255, 255, 255)
        _, baseline = cv2.getTextSize(text, FONT, self.scale, self.thickness)
        origin = left + self.margin, top + height - baseline - (self.margin + 1) // 2
        cv2.putText(drawn, text, origin, FONT, self.scale, ink, self.thickness, cv2.LINE_AA)

# SPDX-License-Identifier: Apache-2.0
"""The geometry of augmentation: affine maps from a source image to the canvas that the network sees.

Maps are float64 [2, 3], source pixels -> canvas pixels, in the continuous convention of centermask_runtime.geometry
(the centre of a pixel is at +0.5). They only scale, flip and turn by quarters: boxes stay boxes, and a source column is
a canvas column or row. So a mask is sampled exactly, once, by indexing.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask.data.segmentation import Rect
from centermask_runtime.geometry import PAD_VALUE, Letterbox

Affine = NDArray[np.float64]


class SourceAxes(NamedTuple):
    """The inverse of a map without slopes: source x = slope[0] * canvas + offset[0], and source y likewise with [1]."""

    turned: bool  # source x runs along canvas y and source y along canvas x; else x along x and y along y
    slope: tuple[float, float]
    offset: tuple[float, float]


def letterbox_affine(frame_hw: tuple[int, int], input_hw: tuple[int, int]) -> Affine:
    """Returns the map of Letterbox.fit, through which inference sees an image."""
    letterbox = Letterbox.fit(frame_hw, input_hw)
    return np.column_stack([np.diag(letterbox.scale_xy), letterbox.offset_xy]).astype(np.float64)


def warp_image(image: NDArray[np.uint8], affine: Affine, canvas_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns the canvas uint8 [H, W, 3] that an affine map shows: bilinear, and PAD_VALUE where there is no image.

    As in inference the image's edge is sharp: no pixel mixes image and padding.
    """
    warped = cv2.warpAffine(
        image, opencv_affine(affine), canvas_hw[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    corners = affine[:, :2] @ np.array([[0, image.shape[1]], [0, image.shape[0]]]) + affine[:, 2:]
    ends = np.ceil(np.sort(corners, axis=1) - 0.5).astype(int)  # of the pixels whose centres show the image
    (left, right), (top, bottom) = np.clip(ends, 0, np.array([[canvas_hw[1]], [canvas_hw[0]]])).tolist()
    warped[:top] = warped[bottom:] = PAD_VALUE
    warped[:, :left] = warped[:, right:] = PAD_VALUE
    return np.asarray(warped, np.uint8)


def opencv_affine(affine: Affine) -> Affine:
    """Returns the same map for OpenCV, where the centre of a pixel is at a whole number."""
    moved = affine.copy()
    moved[:, 2] += affine[:, :2] @ (0.5, 0.5) - 0.5
    return moved


def map_rects(rects: NDArray[np.float64], affine: Affine) -> NDArray[np.float64]:
    """Maps rectangles xyxy [n, 4] by a map without slopes; they are rectangles again."""
    ends = np.stack([rects[:, :2], rects[:, 2:]]) @ affine[:, :2].T + affine[:, 2]
    return np.concatenate([ends.min(0), ends.max(0)], axis=1)


def inverse_affine(affine: Affine) -> Affine:
    """Returns the map from canvas pixels back to source pixels. The map must have no slope."""
    linear = affine[:, :2]
    assert not (linear.diagonal().any() and linear[::-1].diagonal().any()), f"the map must have no slope: {affine}"
    if linear[0, 0] == 0:  # a quarter turn
        back = np.array([[0.0, 1 / linear[1, 0]], [1 / linear[0, 1], 0.0]])
    else:
        back = np.diag(1 / linear.diagonal())
    return np.column_stack([back, -back @ affine[:, 2]])


def source_axes(affine: Affine) -> SourceAxes:
    """Returns the inverse map as two lines, one per axis of the source."""
    inverse = inverse_affine(affine)
    slope_x, slope_y = inverse[:, :2].sum(1).tolist()  # one of the two is 0
    offset_x, offset_y = inverse[:, 2].tolist()
    return SourceAxes(bool(inverse[0, 0] == 0), (slope_x, slope_y), (offset_x, offset_y))


def show_mask(mask: NDArray[np.bool_], origin_xy: tuple[int, int], affine: Affine, region: Rect) -> NDArray[np.bool_]:
    """Returns what a region of the canvas shows of a mask: the value of the source pixel under each pixel's centre.

    mask [h, w] has its corner at origin_xy of the source; the result is [y1 - y0, x1 - x0]. A centre beside the mask
    takes the nearest pixel of its edge: give the mask an empty border, or a region that it covers.
    """
    x0, y0, x1, y1 = region
    turned, slope, offset = source_axes(affine)
    centres = np.arange(x0, x1) + 0.5, np.arange(y0, y1) + 0.5
    along = centres[::-1] if turned else centres  # the canvas axis that source x and source y run along
    columns, rows = (
        np.floor(slope[axis] * along[axis] + offset[axis] - origin_xy[axis]).astype(np.intp) for axis in (0, 1)
    )
    height, width = mask.shape
    shown: NDArray[np.bool_] = mask[rows.clip(0, height - 1)][:, columns.clip(0, width - 1)]
    return shown.T if turned else shown

# SPDX-License-Identifier: Apache-2.0
"""What chance decides about one training image: the affine map that shows it, then its colours.

The order of the random numbers is part of a seeded training: another order makes it another training.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask.config import AugmentConfig
from centermask.data.augment.affine import Affine

CROP_MARGIN = 0.03  # of the canvas: how far a crop may reach beyond the image, so that image borders are seen too
_QUARTER_TURNS = np.array([[[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]]], np.float64)
_BGR_TO_GREY = np.array([0.114, 0.587, 0.299])


def sample_affine(
    rng: np.random.Generator,
    frame_hw: tuple[int, int],
    input_hw: tuple[int, int],
    canvas_hw: tuple[int, int],
    config: AugmentConfig,
) -> Affine:
    """Draws a map from source to canvas. The scale is the one that inference at input_hw would use, times config.scale.

    Along an axis where the scaled image is larger than the canvas a random part of it is seen; elsewhere the image is
    centred and moved by up to config.shift of the canvas. Quarter turns are counter-clockwise, after the flips.
    """
    scale = min(input_hw[0] / frame_hw[0], input_hw[1] / frame_hw[1]) * rng.uniform(*config.scale)
    flip_xy = np.where(rng.random(2) < (config.flip, config.flip_vertical), -1.0, 1.0)
    turn = _QUARTER_TURNS[int(rng.integers(4)) if config.rotate_90 else 0]
    linear = scale * turn * flip_xy
    frame_wh = np.array(frame_hw[::-1], np.float64)
    canvas_wh = np.array(canvas_hw[::-1], np.float64)
    extent_wh = np.abs(linear) @ frame_wh
    slack = extent_wh + 2 * CROP_MARGIN * canvas_wh - canvas_wh
    reach = np.where(extent_wh > canvas_wh, slack / 2, config.shift * canvas_wh)
    centre = canvas_wh / 2 + rng.uniform(-1, 1, 2) * reach
    return np.column_stack([linear, centre - linear @ (frame_wh / 2)])


def jitter_colour(rng: np.random.Generator, image: NDArray[np.uint8], config: AugmentConfig) -> NDArray[np.uint8]:
    """Changes brightness, contrast and saturation, each by 1 +- config.colour, in random order; perhaps inverts all.

    Each is a linear map of colours, so all are one matrix: one pass over the pixels, rounded and clipped once.
    """
    matrix, offset = np.eye(3), np.zeros(3)
    mean_bgr = np.array(cv2.mean(image)[:3])
    for step in rng.permutation(3):
        strength = 1 + rng.uniform(-config.colour, config.colour)
        if step == 0:  # brightness
            matrix, offset = strength * matrix, strength * offset
        elif step == 1:  # contrast, around the mean grey of the image as it is by now
            grey = _BGR_TO_GREY @ (matrix @ mean_bgr + offset)
            matrix, offset = strength * matrix, strength * offset + (1 - strength) * grey
        else:  # saturation, around the grey of each pixel
            towards_grey = strength * np.eye(3) + (1 - strength) * np.tile(_BGR_TO_GREY, (3, 1))
            matrix, offset = towards_grey @ matrix, towards_grey @ offset
    if rng.random() < config.invert:
        matrix, offset = -matrix, 255 - offset
    return np.asarray(cv2.transform(image, np.column_stack([matrix, offset])), np.uint8)

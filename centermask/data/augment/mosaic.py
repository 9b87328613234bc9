# SPDX-License-Identifier: Apache-2.0
"""Mosaic: four images on one canvas, around a random point (YOLOv4, arXiv 2004.10934, section 3.3).

Unlike there each quarter is one warp of its source image, with its own scale, place, flips and turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from centermask.config import AugmentConfig
from centermask.data.augment.affine import warp_image
from centermask.data.augment.draw import sample_affine
from centermask.data.augment.scene import Scene, show_objects
from centermask.data.dataset import ObjectMask
from centermask.data.segmentation import Rect

PARTS = 4
CENTRE = (0.3, 0.7)  # of the canvas: where the four may meet


def draw_mosaic(
    rng: np.random.Generator,
    sources: Sequence[tuple[NDArray[np.uint8], Sequence[ObjectMask]]],
    input_hw: tuple[int, int],
    canvas_hw: tuple[int, int],
    config: AugmentConfig,
) -> Scene:
    """Joins four images with their objects: top left, top right, bottom left, bottom right.

    Scales reach down to half of config.scale, as a quarter shows whole images only when they are smaller.
    """
    assert len(sources) == PARTS
    smaller = replace(config, scale=(config.scale[0] / 2, config.scale[1]))
    canvas = np.empty((*canvas_hw, 3), np.uint8)
    objects: list[ObjectMask] = []
    for (image, annotated), region in zip(sources, _quarters(rng, canvas_hw), strict=True):
        x0, y0, x1, y1 = region
        size_hw = y1 - y0, x1 - x0
        affine = sample_affine(rng, (image.shape[0], image.shape[1]), input_hw, size_hw, smaller)
        canvas[y0:y1, x0:x1] = warp_image(image, affine, size_hw)
        affine[:, 2] += x0, y0
        objects += show_objects(annotated, affine, region)
    return Scene(canvas, objects)


def _quarters(rng: np.random.Generator, canvas_hw: tuple[int, int]) -> tuple[Rect, ...]:
    height, width = canvas_hw
    y, x = np.round(rng.uniform(*CENTRE, 2) * canvas_hw).astype(int).tolist()
    return (0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)

# SPDX-License-Identifier: Apache-2.0
"""What differs between laboratories, drawn once per image: stain, exposure, uneven light, focus, colour or grey.

Each has a field in AugmentConfig and is off by default; only what is on draws random numbers, so that a seeded training
without them stays the training that it was.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask.config import AugmentConfig

# Optical densities in RGB of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001)
STAINS_RGB = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
STAINS = STAINS_RGB[:, ::-1] / np.linalg.norm(STAINS_RGB, axis=1, keepdims=True)  # BGR, unit length
FROM_DENSITY = np.linalg.inv(STAINS)  # optical density of BGR -> amounts of the three stains
DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)  # of each pixel value
BLUR_SIGMA = (0.3, 1.5)  # pixels


def change_appearance(rng: np.random.Generator, image: NDArray[np.uint8], config: AugmentConfig) -> NDArray[np.uint8]:
    """Returns the image uint8 [H, W, 3] BGR as another laboratory might have taken it; geometry stays."""
    if config.stain:
        image = _restain(rng, image, config.stain)
    if config.gamma:
        exponent = math.exp(rng.uniform(-config.gamma, config.gamma))
        image = _by_table(image, 255 * (np.arange(256) / 255) ** exponent)
    if config.shading:
        image = _shade(rng, image, config.shading)
    if config.blur and rng.random() < config.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(*BLUR_SIGMA)), np.uint8)
    if config.grey and rng.random() < config.grey:
        image = np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
    return image


def _restain(rng: np.random.Generator, image: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    """Changes the amount of each of the three stains by a factor of 1 +- strength (Tellez et al. 2018)."""
    amounts = np.diag(1 + rng.uniform(-strength, strength, 3))
    mix = (FROM_DENSITY @ amounts @ STAINS).T  # of optical densities, as cv2.transform takes it
    density = cv2.transform(cv2.LUT(image, DENSITY), mix)
    return np.asarray(np.rint(256 * np.exp(-density) - 1).clip(0, 255), np.uint8)


def _shade(rng: np.random.Generator, image: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    """Multiplies by a ramp in a random direction, 1 in the middle and 1 +- at most `strength` at the corners."""
    height, width = image.shape[:2]
    direction = rng.uniform(0, 2 * math.pi)
    slope = rng.uniform(0, strength) / (abs(math.cos(direction)) + abs(math.sin(direction)))
    x = np.linspace(-1, 1, width, dtype=np.float32) * (slope * math.cos(direction))
    y = np.linspace(-1, 1, height, dtype=np.float32) * (slope * math.sin(direction))
    return np.rint(image * (1 + y[:, None] + x)[..., None]).clip(0, 255).astype(np.uint8)


def _by_table(image: NDArray[np.uint8], table: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray(cv2.LUT(image, np.rint(table).clip(0, 255).astype(np.uint8)), np.uint8)

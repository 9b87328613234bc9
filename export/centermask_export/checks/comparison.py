# SPDX-License-Identifier: Apache-2.0
"""What outputs are compared on: the images, and the device. No torch."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_export.batches import images_of
from centermask_runtime.device import CPU, Device
from centermask_runtime.errors import DataError

IMAGES = Path(__file__).parent / "images"  # CC0; real pixels make real activations
IMAGES_AT_MOST = 16
ON_CPU = Device.of(CPU)


def comparison_images(source: Path | None = None) -> list[NDArray[np.uint8]]:
    """The images uint8 [h, w, 3] BGR that outputs are compared on. Raises DataError where there are none."""
    images = list(itertools.islice(images_of(source or IMAGES), IMAGES_AT_MOST))
    if not images:
        raise DataError(f"{source} has no image to compare outputs on; give a folder with .jpg or .png files.")
    return images

# SPDX-License-Identifier: Apache-2.0
"""PIL images -> uint8 [H, W, 3] BGR. Pillow is imported only where there is such an image, or a file that needs it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.value_range import ValueRange

if TYPE_CHECKING:
    from PIL.Image import Image

# What Pillow raises for damaged files; its DecompressionBombError is made a ValueError below.
PIL_ERRORS = (OSError, ValueError, SyntaxError, EOFError, AttributeError, struct.error)


def pil_to_bgr(image: Image, *, exif: bool = True, values: ValueRange | None = None) -> NDArray[np.uint8]:
    """A PIL image of any mode as pixels; grey ones are converted, transparency is dropped.

    exif: turn it as its EXIF tag says. values: of images with more than 8 bits; without, 16 bits lose their lower 8.
    Raises DataError for modes without a known range of values, and PIL_ERRORS.
    """
    from PIL import Image as pillow
    from PIL import ImageOps

    try:
        image.load()
        turned = ImageOps.exif_transpose(image) if exif else image
    except pillow.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if 0 in turned.size:
        raise DataError("The PIL image has no pixels: check where it comes from.")
    if turned.mode in ("I", "F") or turned.mode.startswith("I;16"):
        return _deep(np.asarray(turned), turned.mode, values)
    return np.ascontiguousarray(np.asarray(turned.convert("RGB"), np.uint8)[:, :, ::-1])


def _deep(grey: NDArray[np.generic], mode: str, values: ValueRange | None) -> NDArray[np.uint8]:
    if mode.startswith("I;16"):
        grey = grey.astype(np.uint16)
    if values is not None:
        pixels = values.to_8_bits(grey)
    elif mode.startswith("I;16"):
        pixels = (grey >> 8).astype(np.uint8)  # type: ignore[operator]
    else:
        raise DataError(
            f"A PIL image of mode {mode} has no range of values that is known: "
            "bring it to 0 to 255 and convert it to mode L or RGB."
        )
    return np.repeat(pixels[:, :, None], 3, axis=2)

# SPDX-License-Identifier: Apache-2.0
"""Image files -> arrays: which files are images, and one way to read them all.

Orientation: what people look at is turned by its EXIF tag. Data sets are annotated on the stored pixels, so read_image
can leave EXIF alone.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def is_image(path: Path) -> bool:
    """Looks at the name, not at the content."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def image_files(folder: Path) -> list[Path]:
    """Images directly in the folder, sorted by name. Raises DataError when there are none."""
    found = sorted(path for path in folder.iterdir() if is_image(path) and path.is_file())
    if not found:
        raise DataError(f"The folder {folder} holds no images ({', '.join(IMAGE_SUFFIXES)}): check the path.")
    return found


def read_image(path: str | Path, *, exif: bool = True) -> NDArray[np.uint8]:
    """An image file -> uint8 [H, W, 3] BGR; grey and 16-bit images are converted, transparency is dropped.

    exif: turn the image as its EXIF tag says. False for data sets. Raises DataError.
    """
    try:
        content = np.fromfile(path, np.uint8)  # not cv2.imread: on Windows it opens no path beyond the code page
    except OSError as error:
        raise DataError(f"The image {path} cannot be read: {error.strerror or error}.") from error
    flags = cv2.IMREAD_COLOR if exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    log_level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the sentence below says it
    try:
        image = cv2.imdecode(content, flags) if content.size else None
    except cv2.error:  # too large, or a decoder that gave up
        image = None
    finally:
        cv2.utils.logging.setLogLevel(log_level)
    if image is None:
        raise DataError(f"{path} is not an image that OpenCV can read: it may be damaged or of another kind.")
    return np.asarray(image, np.uint8)

# SPDX-License-Identifier: Apache-2.0
"""The bytes of an image file -> uint8 [H, W, 3] BGR: by OpenCV, or by Pillow with its plug-ins where that cannot.

Values of more than 8 bits: without a range, 16 bits lose their lower 8 and floats are refused; with one, it decides.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.packages import install_command, is_installed
from centermask_runtime.pil_images import PIL_ERRORS, pil_to_bgr
from centermask_runtime.value_range import ValueRange

OPENCV_KINDS = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"RIFF")
HEIF_BRANDS = (b"heic", b"heim", b"heis", b"heix", b"mif1")


def decode_image(
    content: NDArray[np.uint8], name: str, *, exif: bool = True, values: ValueRange | None = None, page: int = 0
) -> NDArray[np.uint8]:
    """The bytes of an image file -> the image; grey images are converted, transparency is dropped.

    name: for the sentence of the DataError. exif: turn the image as its EXIF tag says. values: of images with more than
    8 bits. page: of a TIFF with several.
    """
    turned = 0 if exif else cv2.IMREAD_IGNORE_ORIENTATION
    if content.size:
        if values is not None:
            image = _decoded(content, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR | turned, page)
            if image is None:  # OpenCV makes no colour of grey floats
                image = _decoded(content, cv2.IMREAD_UNCHANGED, page)
        else:
            image = _decoded(content, cv2.IMREAD_COLOR | turned, page)
            if image is None:
                _refuse_without_range(_decoded(content, cv2.IMREAD_UNCHANGED, page), name)
        if image is not None:
            return _bgr(image if values is None else values.to_8_bits(image))
        whole_or_none = content[:4].tobytes().startswith(OPENCV_KINDS)  # Pillow makes something of a part of one
        by_pillow = None if page or whole_or_none else _pillow_decoded(content.tobytes(), name, exif)
        if by_pillow is not None:
            return by_pillow
    raise DataError(f"{name} is not an image that OpenCV or Pillow can read: it may be damaged or of another kind.")


def _decoded(content: NDArray[np.uint8], flags: int, page: int) -> NDArray[Any] | None:
    with _silent():  # the sentence above says it
        try:
            if page == 0:
                return cv2.imdecode(content, flags)
            done, pages = cv2.imdecodemulti(content, flags, range=(page, page + 1))
            return pages[0] if done else None
        except cv2.error:  # too large, or a decoder that gave up
            return None


@contextmanager
def _silent() -> Iterator[None]:
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _refuse_without_range(image: NDArray[Any] | None, name: str) -> None:
    if image is not None and image.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{name} holds values of {image.dtype}, and the model has no range that says which are black and white: "
            "train it with input.range or input.percentiles, or convert the image to 8 bits."
        )


def _bgr(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    if image.shape[2] == 1:
        return np.repeat(image, 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])


def _pillow_decoded(content: bytes, name: str, exif: bool) -> NDArray[np.uint8] | None:
    """What Pillow and its plug-ins make of it; None for what they do not know either."""
    if not is_installed("PIL"):
        return None
    from PIL import Image

    heif = content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS
    if heif:
        if not is_installed("pi_heif"):
            raise DataError(f"{name} is a HEIC image, as phones take them: {install_command('heif')} reads it.")
        import pi_heif

        pi_heif.register_heif_opener()
    try:
        with Image.open(io.BytesIO(content)) as image:
            return pil_to_bgr(image, exif=exif)
    except PIL_ERRORS:
        return None

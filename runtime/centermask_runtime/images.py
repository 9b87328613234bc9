# SPDX-License-Identifier: Apache-2.0
"""What an image is: one way to read and to write files of them, and which arrays are frames.

Orientation: what people look at is turned by its EXIF tag. Data sets are annotated on the stored pixels, so read_image
can leave EXIF alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import CenterMaskError, DataError, first_line, shown
from centermask_runtime.image_decoding import decode_image
from centermask_runtime.image_kinds import IMAGE_SUFFIXES, is_image_file, open_regular
from centermask_runtime.partial_file import write_whole
from centermask_runtime.pil_images import PIL_ERRORS, pil_to_bgr
from centermask_runtime.value_range import ValueRange

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")  # that write_picture writes


def image_files(folder: Path) -> list[Path]:
    """The images directly in the folder, sorted by name; hidden files are left out. Raises DataError without any."""
    found = sorted(
        path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file() and is_image_file(path)
    )
    if not found:
        raise DataError(f"The folder {shown(folder)} holds no images ({', '.join(IMAGE_SUFFIXES)}): check the path.")
    return found


def read_image(
    path: str | Path, *, exif: bool = True, values: ValueRange | None = None, page: int = 0
) -> NDArray[np.uint8]:
    """An image file -> uint8 [H, W, 3] BGR; grey images are converted, transparency is dropped.

    exif: turn the image as its EXIF tag says. False for data sets. values: of images with more than 8 bits. page: of a
    TIFF with several. Raises DataError.
    """
    try:
        with open_regular(path) as file:
            if page:  # of a stack that may be larger than the memory
                content: NDArray[np.uint8] = np.memmap(file, np.uint8, "r")
            else:
                content = np.fromfile(
                    file, np.uint8
                )  # not cv2.imread: on Windows it opens no path beyond the code page
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"The image {shown(path)} cannot be read: {reason}.") from error
    name = f"{shown(path)}, page {page}," if page else shown(path)
    return decode_image(content, name, exif=exif, values=values, page=page)


def picture_path(path: Path) -> Path:
    """Where write_picture writes: .png and .jpg keep their name, another kind becomes .png: a.bmp -> a.bmp.png."""
    return path if path.suffix.lower() in PICTURE_SUFFIXES else path.with_name(f"{path.name}.png")


def write_picture(path: Path, picture: NDArray[np.uint8]) -> Path:
    """Writes a picture uint8 [H, W, 3] BGR to picture_path(path) -> that path, all of the file or none.

    Raises UsageError where the place is refused, CenterMaskError when it fails.
    """
    path = picture_path(path)
    done, content = cv2.imencode(path.suffix, picture)
    if not done:
        raise CenterMaskError(f"The picture {path} of {picture.shape[1]} x {picture.shape[0]} cannot be encoded.")
    write_whole(path, content.tobytes())
    return path


def is_pil_image(image: Any) -> bool:
    """Whether it is a PIL.Image.Image. Pillow is not imported: whoever has such an image has done that."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(image, pillow.Image)


def frame_of(image: Any, values: ValueRange | None = None) -> NDArray[np.uint8]:
    """A frame uint8 [H, W, 3] BGR as it is, or a PIL image converted to one, turned by its EXIF tag. Raises DataError.

    Of a PIL image, grey and 16-bit ones are converted and transparency is dropped, as read_image does with files.
    values: of images with more than 8 bits, arrays too.
    """
    if is_pil_image(image):
        try:
            return pil_to_bgr(image, values=values)
        except PIL_ERRORS as error:
            raise DataError(
                f"The PIL image cannot be read ({first_line(error)}): its file may be damaged, or was closed too early."
            ) from error
    if values is not None and isinstance(image, np.ndarray) and image.dtype.kind in "uif" and image.dtype != np.uint8:
        image = values.to_8_bits(image)
    check_frame(image)
    return np.asarray(image, np.uint8)


def check_frame(frame: Any, frame_hw: tuple[int, int] | None = None) -> None:
    """Raises DataError, with what to do about it, when it is not uint8 [H, W, 3]. Any memory layout is right.

    frame_hw: the size of the frame that instances were found in, where it has to be that one.
    """
    if not isinstance(frame, np.ndarray):
        raise DataError(f"A frame must be an array uint8 [height, width, 3] in BGR order, not {type(frame).__name__}.")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise DataError(
            f"A frame must be uint8 [height, width, 3] in BGR order, not {frame.dtype} {list(frame.shape)}; "
            f"{_what_to_do(frame)}."
        )
    if frame_hw is not None and frame.shape[:2] != frame_hw:
        (height, width), (own_height, own_width) = frame.shape[:2], frame_hw
        raise DataError(
            f"The instances are of a frame of {own_width} x {own_height}, and one of {width} x {height} was given: "
            "give the frame that they were found in."
        )


def _what_to_do(array: NDArray[Any]) -> str:
    """How this array becomes a frame, one step at a time: the type first."""
    if 0 in array.shape:
        return "it has no pixels, so check where it comes from"
    if array.dtype == np.bool_:
        return "convert it with image.astype(np.uint8) * 255"
    if array.dtype == np.uint16:
        return "convert it with (image >> 8).astype(np.uint8)"
    if np.issubdtype(array.dtype, np.floating):
        return "convert it with (image * 255).round().astype(np.uint8) if its values are from 0 to 1"
    if array.dtype != np.uint8:
        return "bring its values to 0 to 255 and convert it with image.astype(np.uint8)"
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1):
        return "convert the grey image with cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    if array.ndim == 3 and array.shape[2] == 4:
        return "drop the transparency with cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), or COLOR_RGBA2BGR"
    if array.ndim == 3 and array.shape[0] == 3:
        return "bring the channels to the end with image.transpose(1, 2, 0)"
    if array.ndim == 4:
        return "it looks like a batch, so give the images one by one or as a list"
    return "convert it before the call"

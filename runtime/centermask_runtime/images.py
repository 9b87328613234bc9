# SPDX-License-Identifier: Apache-2.0
"""What an image is: which files are images, one way to read and to write them, and which arrays are frames.

Orientation: what people look at is turned by its EXIF tag. Data sets are annotated on the stored pixels, so read_image
can leave EXIF alone.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import CenterMaskError, DataError, first_line, shown
from centermask_runtime.partial_file import write_whole

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")  # that write_picture writes

HEAD_BYTES = 16  # that `kind_of` wants to see
# Without TIFF's: the raw files of cameras begin as TIFF does, and OpenCV would take their small preview for the image.
_MARKS: tuple[tuple[Literal["image", "video"], tuple[tuple[int, bytes], ...]], ...] = (
    ("image", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("image", ((0, b"\xff\xd8\xff"),)),  # JPEG
    ("image", ((0, b"RIFF"), (8, b"WEBP"))),
    ("image", ((0, b"BM"), (6, b"\0\0\0\0"))),  # BMP: its reserved bytes tell it from text
    ("video", ((0, b"RIFF"), (8, b"AVI "))),
    ("video", ((4, b"ftyp"),)),  # MP4, MOV
    ("video", ((0, b"\x1aE\xdf\xa3"),)),  # Matroska, WebM
    ("video", ((0, b"GIF8"),)),  # all of its pictures
)


def kind_of(head: bytes) -> Literal["image", "video"] | None:
    """What a file is by its first HEAD_BYTES bytes; None for what is not in this small table."""
    for kind, marks in _MARKS:
        if all(head[place : place + len(mark)] == mark for place, mark in marks):
            return kind
    return None


def is_image(path: Path) -> bool:
    """Whether the name is an image's. Does not look at the content."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_image_file(path: Path) -> bool:
    """Whether the content is an image's, whatever the name; where the content tells nothing, whether the name is.

    So a damaged .png is an image, and a video that somebody called .png is not.
    """
    try:
        with open_regular(path) as file:
            kind = kind_of(file.read(HEAD_BYTES))
    except (OSError, ValueError):
        kind = None
    return kind == "image" or (kind is None and is_image(path))


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a file for reading. Raises OSError also for a pipe, a socket and a device, whose reading may never end."""
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device and no file")
    return open(path, "rb")


def image_files(folder: Path) -> list[Path]:
    """The images directly in the folder, sorted by name; hidden files are left out. Raises DataError without any."""
    found = sorted(
        path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file() and is_image_file(path)
    )
    if not found:
        raise DataError(f"The folder {shown(folder)} holds no images ({', '.join(IMAGE_SUFFIXES)}): check the path.")
    return found


def read_image(path: str | Path, *, exif: bool = True) -> NDArray[np.uint8]:
    """An image file -> uint8 [H, W, 3] BGR; grey and 16-bit images are converted, transparency is dropped.

    exif: turn the image as its EXIF tag says. False for data sets. Raises DataError.
    """
    try:
        with open_regular(path) as file:
            content = np.fromfile(file, np.uint8)  # not cv2.imread: on Windows it opens no path beyond the code page
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"The image {shown(path)} cannot be read: {reason}.") from error
    return decode_image(content, shown(path), exif=exif)


def decode_image(content: NDArray[np.uint8], name: str, *, exif: bool = True) -> NDArray[np.uint8]:
    """The bytes of an image file -> what read_image gives. `name` is for the sentence of the DataError."""
    flags = cv2.IMREAD_COLOR if exif else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    log_level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the sentence below says it
    try:
        image = cv2.imdecode(content, flags) if content.size else None
    except cv2.error:  # too large, or a decoder that gave up
        image = None
    finally:
        cv2.utils.logging.setLogLevel(log_level)
    if image is None:
        raise DataError(f"{name} is not an image that OpenCV can read: it may be damaged or of another kind.")
    return np.asarray(image, np.uint8)


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


def frame_of(image: Any) -> NDArray[np.uint8]:
    """A frame uint8 [H, W, 3] BGR as it is, or a PIL image converted to one, turned by its EXIF tag. Raises DataError.

    Of a PIL image, grey and 16-bit ones are converted and transparency is dropped, as read_image does with files.
    """
    if not is_pil_image(image):
        check_frame(image)
        return np.asarray(image, np.uint8)
    from PIL import Image, ImageOps

    try:
        image.load()
        turned = ImageOps.exif_transpose(image)
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        AttributeError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(
            f"The PIL image cannot be read ({first_line(error)}): its file may be damaged, or was closed too early."
        ) from error
    if 0 in turned.size:
        raise DataError("The PIL image has no pixels: check where it comes from.")
    if turned.mode.startswith("I;16"):
        grey = (np.asarray(turned).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if turned.mode in ("I", "F"):
        raise DataError(
            f"A PIL image of mode {turned.mode} has no range of values that is known: "
            "bring it to 0 to 255 and convert it to mode L or RGB."
        )
    return np.ascontiguousarray(np.asarray(turned.convert("RGB"), np.uint8)[:, :, ::-1])


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

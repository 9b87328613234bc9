# SPDX-License-Identifier: Apache-2.0
"""What a file is, an image or a video: its content says it, and its name only where the content tells nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Literal

from centermask_runtime.packages import is_installed

Kind = Literal["image", "video"]

IMAGE_SUFFIXES = (
    ".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif",
    ".tiff", ".webp",
)  # fmt: skip
VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".hevc", ".m2ts", ".m3u8", ".m4v", ".mjpeg", ".mjpg", ".mkv",
    ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".sdp", ".ts", ".vob", ".webm", ".wmv", ".y4m",
)  # fmt: skip

STACK_SUFFIXES = (".tif", ".tiff")
HEAD_BYTES = 16  # that `kind_of` wants to see
GIF = b"GIF8"
# Without TIFF's: the raw files of cameras begin as TIFF does, and OpenCV would take their small preview for the image.
_MARKS: tuple[tuple[Kind, tuple[tuple[int, bytes], ...]], ...] = (
    ("image", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("image", ((0, b"\xff\xd8\xff"),)),  # JPEG
    ("image", ((0, b"RIFF"), (8, b"WEBP"))),
    ("image", ((0, b"BM"), (6, b"\0\0\0\0"))),  # BMP: its reserved bytes tell it from text
    ("image", ((0, b"\0\0\0\x0cjP  \r\n\x87\n"),)),  # JPEG 2000
    ("image", ((0, b"\xff\x4f\xff\x51"),)),  # its bare code stream
    *(("image", ((4, b"ftyp" + brand),)) for brand in (b"avif", b"heic", b"heim", b"heis", b"heix", b"mif1")),
    ("video", ((0, b"RIFF"), (8, b"AVI "))),
    ("video", ((4, b"ftyp"),)),  # MP4, MOV
    ("video", ((0, b"\x1aE\xdf\xa3"),)),  # Matroska, WebM
    ("video", ((0, GIF),)),  # all of its pictures
)


def kind_of(head: bytes) -> Kind | None:
    """What a file is by its first HEAD_BYTES bytes; None for what is not in this small table."""
    for kind, marks in _MARKS:
        if all(head[place : place + len(mark)] == mark for place, mark in marks):
            return kind
    return None


def kind_of_file(path: Path) -> Kind | None:
    """What a file is by its content; where that tells nothing, by its name; None where neither does.

    So a damaged .png is an image, and a video that somebody called .png is not. A GIF of one picture is an image.
    """
    head = head_of(path)
    kind = kind_of(head)
    if kind == "video" and head.startswith(GIF) and pages_of(path) == 1:
        return "image"
    if kind is None:
        suffix = path.suffix.lower()
        return "image" if suffix in IMAGE_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None
    return kind


def is_image(path: Path) -> bool:
    """Whether the name is an image's. Does not look at the content."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_image_file(path: Path) -> bool:
    """Whether kind_of_file says that it is an image."""
    return kind_of_file(path) == "image"


def head_of(path: Path, count: int = HEAD_BYTES) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(count)
    except (OSError, ValueError):
        return b""


def is_stack(path: Path) -> bool:
    """Whether it is a TIFF of several pages."""
    return path.suffix.lower() in STACK_SUFFIXES and pages_of(path) > 1


def pages_of(path: Path) -> int:
    """How many pictures a GIF or a TIFF holds; 1 where nobody knows. A TIFF's small previews do not count."""
    if not is_installed("PIL"):
        return 1
    from PIL import Image

    try:
        with Image.open(path) as image:
            count = int(getattr(image, "n_frames", 1))
            if image.format != "TIFF":
                return count
            while count > 1 and _is_preview(image, count - 1):
                count -= 1
            return count
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return 1


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a file for reading. Raises OSError also for a pipe, a socket and a device, whose reading may never end."""
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device and no file")
    return open(path, "rb")


def _is_preview(image: object, page: int) -> bool:
    image.seek(page)  # type: ignore[attr-defined]
    return bool(image.tag_v2.get(254, 0) & 1)  # type: ignore[attr-defined]

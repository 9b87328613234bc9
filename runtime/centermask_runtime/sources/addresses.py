# SPDX-License-Identifier: Apache-2.0
"""Addresses such as https://host/a.jpg: an image behind one is read here; a video is left to FFmpeg."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError, first_line, shown
from centermask_runtime.images import HEAD_BYTES, decode_image, is_image_file, kind_of, read_image

MOST_BYTES = 100 << 20  # of an image
TIMEOUT_S = 15.0  # for the connection, and for each wait for data
TOTAL_S = 120.0  # for all of an image
CHUNK = 1 << 16
UNQUOTED = "!#$%&'()*+,/:;=?@[]~"  # what an address may hold as it is; spaces and letters beyond ASCII may not


def is_address(source: str | Path) -> bool:
    """Whether it is an address, such as rtsp://camera/1, and no path."""
    return isinstance(source, str) and "://" in source


def address_name(address: str) -> str:
    """The name of the file that an address points to; the host's where it has none."""
    parts = _parts(address)
    return PurePosixPath(urllib.parse.unquote(parts.path)).name or parts.hostname or "stream"


def image_at(address: str) -> NDArray[np.uint8] | None:
    """The image uint8 [H, W, 3] BGR behind an http, https or file address; None where something else is there.

    Raises DataError when it cannot be had, is damaged, is larger than MOST_BYTES, or takes longer than TOTAL_S.
    """
    scheme = _parts(address).scheme.lower()
    if scheme == "file":
        path = file_of(address)
        return read_image(path) if is_image_file(path) else None
    if scheme not in ("http", "https"):
        return None
    try:
        with urllib.request.urlopen(urllib.parse.quote(address, safe=UNQUOTED), timeout=TIMEOUT_S) as answer:
            content = _read(answer)
            if content is None and answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
                raise DataError(f"{shown(address)} is a web page and no image or video: give the image's own address.")
    except (OSError, ValueError, http.client.HTTPException) as error:  # urllib's errors are OSErrors
        reason = shown(getattr(error, "reason", None) or error)
        raise DataError(f"{shown(address)} cannot be read ({reason}): check the address and the connection.") from error
    if content is None:
        return None
    if len(content) > MOST_BYTES:
        raise DataError(
            f"The image at {shown(address)} has more than {MOST_BYTES >> 20} MB: download it and make it smaller."
        )
    return decode_image(np.frombuffer(content, np.uint8), shown(address))


def image_behind(source: str | Path) -> NDArray[np.uint8]:
    """The image uint8 [H, W, 3] BGR of a path or an address, as one of many. Raises DataError where there is none."""
    if not is_address(source):
        return read_image(source)
    image = image_at(str(source))
    if image is None:
        raise DataError(f"{shown(source)} is no image, and a list is of images: call the model on each video.")
    return image


def file_of(address: str) -> Path:
    """The file on this machine that file:///folder/a.png is."""
    return Path(urllib.request.url2pathname(_parts(address).path))


def _parts(address: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(address)
    except ValueError as error:
        raise DataError(f"{shown(address)} is no address ({first_line(error)}): check it.") from error


def _read(answer: http.client.HTTPResponse) -> bytes | None:
    """What an image's address gives, one byte more than MOST_BYTES at most; None for what is no image."""
    end = time.monotonic() + TOTAL_S
    content = bytearray()
    while len(content) <= MOST_BYTES:
        part = answer.read1(min(CHUNK, MOST_BYTES + 1 - len(content)))  # gives what is there: a byte, if need be
        content += part
        if (len(content) >= HEAD_BYTES or not part) and kind_of(bytes(content[:HEAD_BYTES])) != "image":
            return None
        if not part:
            break
        if time.monotonic() > end:
            raise TimeoutError(f"not all of it came within {TOTAL_S:g} seconds")
    return bytes(content)

# SPDX-License-Identifier: Apache-2.0
"""Addresses such as https://host/a.jpg: an image behind one is read here; a video is left to FFmpeg."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.images import HEAD_BYTES, decode_image, kind_of

MOST_BYTES = 100 << 20  # of an image
TIMEOUT_S = 15.0  # for the connection, and for each wait for data


def is_address(source: str | Path) -> bool:
    """Whether it is an address, such as rtsp://camera/1, and no path."""
    return isinstance(source, str) and "://" in source


def address_name(address: str) -> str:
    """The name of the file that an address points to; the host's where it has none."""
    parts = urllib.parse.urlsplit(address)
    return PurePosixPath(urllib.parse.unquote(parts.path)).name or parts.hostname or "stream"


def image_at(address: str) -> NDArray[np.uint8] | None:
    """The image uint8 [H, W, 3] BGR behind an http or https address; None where something else is there.

    Raises DataError when it cannot be had, is damaged, or is larger than MOST_BYTES.
    """
    if urllib.parse.urlsplit(address).scheme.lower() not in ("http", "https"):
        return None
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:
            head = answer.read(HEAD_BYTES)
            if kind_of(head) != "image":
                return None
            content = head + answer.read(MOST_BYTES + 1 - len(head))
    except (OSError, ValueError, http.client.HTTPException) as error:  # urllib's errors are OSErrors
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{address} cannot be read ({reason}): check the address and the connection.") from error
    if len(content) > MOST_BYTES:
        raise DataError(f"The image at {address} has more than {MOST_BYTES >> 20} MB: download it and make it smaller.")
    return decode_image(np.frombuffer(content, np.uint8), address)

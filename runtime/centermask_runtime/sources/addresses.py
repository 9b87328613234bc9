# SPDX-License-Identifier: Apache-2.0
"""Addresses such as https://host/a.jpg: an image behind one is read here; a video is left to FFmpeg.

Names and passwords in an address are used and never shown.
"""

from __future__ import annotations

import base64
import http.client
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError, first_line, shown
from centermask_runtime.image_decoding import decode_image
from centermask_runtime.image_kinds import HEAD_BYTES, is_image_file, kind_of
from centermask_runtime.images import read_image
from centermask_runtime.value_range import ValueRange

MOST_BYTES = 100 << 20  # of an image
TIMEOUT_S = 15.0  # for the connection, and for each wait for data
HEAD_S = 30.0  # until the answer begins, with all redirections
TOTAL_S = 120.0  # for all of an image
CHUNK = 1 << 16
UNQUOTED = "!#$%&'()*+,/:;=?@[]~"  # what an address may hold as it is; spaces and letters beyond ASCII may not


LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtmpt", "srt", "udp", "rtp", "tcp", "mms", "mmsh", "mmst")


@dataclass(frozen=True)
class Encoded:
    """The bytes of the image behind an address."""

    content: bytes
    address: str

    def decoded(self, values: ValueRange | None = None) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] BGR. Raises DataError."""
        return decode_image(np.frombuffer(self.content, np.uint8), public(self.address), values=values)


@dataclass(frozen=True)
class Answer:
    """What is behind an http address: an image, or else something that has an end, or may have none."""

    image: Encoded | None
    has_end: bool


def is_address(source: str | Path) -> bool:
    """Whether it is an address, such as rtsp://camera/1, and no path."""
    return isinstance(source, str) and "://" in source


def scheme_of(address: str) -> str:
    """Its first part, such as rtsp, in small letters."""
    return _parts(address).scheme.lower()


def address_name(address: str) -> str:
    """The name of the file that an address points to; the host's where it has none."""
    parts = _parts(address)
    return PurePosixPath(urllib.parse.unquote(parts.path)).name or parts.hostname or "stream"


def stream_name(address: str) -> str:
    """What a stream is called: its host and path, with signs that any file's name may have: rtsp://door/1 -> door_1."""
    parts = _parts(address)
    words = re.findall(r"[\w.-]+", f"{parts.hostname or ''} {urllib.parse.unquote(parts.path)}")
    return "_".join(words).strip(".") or "stream"


def public(source: str | Path) -> str:
    """An address or a path for a sentence: of bounded length, and without name and password."""
    return shown(re.sub(r"(?<=://)[^/@]*@", "", str(source)))


def image_at(address: str, values: ValueRange | None = None) -> NDArray[np.uint8] | None:
    """The image uint8 [H, W, 3] BGR behind an http, https or file address; None where something else is there.

    Raises DataError when it cannot be had, is damaged, is larger than MOST_BYTES, or takes longer than TOTAL_S.
    """
    scheme = scheme_of(address)
    if scheme == "file":
        path = file_of(address)
        return read_image(path, values=values) if is_image_file(path) else None
    image = answer_of(address).image if scheme in ("http", "https") else None
    return None if image is None else image.decoded(values)


def answer_of(address: str) -> Answer:
    """Looks what an http or https address gives. Raises DataError where that cannot be had."""
    try:
        with _asked(_request(address)) as answer:
            content = _read(answer)
            if content is None and answer.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
                raise DataError(f"{public(address)} is a web page and no image or video: give the image's own address.")
            has_end = answer.headers.get("Content-Length") is not None
    except urllib.error.HTTPError as error:
        if error.code != 401:  # FFmpeg knows more ways to say who asks
            raise _unread(address, error) from error
        return Answer(None, False)
    except (OSError, ValueError, http.client.HTTPException) as error:  # urllib's errors are OSErrors
        raise _unread(address, error) from error
    if content is None:
        return Answer(None, has_end)
    if len(content) > MOST_BYTES:
        raise DataError(
            f"The image at {public(address)} has more than {MOST_BYTES >> 20} MB: download it and make it smaller."
        )
    return Answer(Encoded(content, address), True)


def _asked(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Its answer's head. Raises what urllib does, and TimeoutError where the head takes longer than HEAD_S."""
    answers: list[http.client.HTTPResponse] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(urllib.request.urlopen(request, timeout=TIMEOUT_S))
        except BaseException as error:
            errors.append(error)

    asking = threading.Thread(target=ask, daemon=True)  # no time-out of a socket ends a head that comes byte by byte
    asking.start()
    asking.join(HEAD_S)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"it did not answer within {HEAD_S:g} seconds")
    return answers[0]


def _unread(address: str, error: Exception) -> DataError:
    reason = getattr(error, "reason", None) or error
    reason = shown(reason.splitlines()[0] if isinstance(reason, str) else reason)
    return DataError(f"{public(address)} cannot be read ({reason}): check the address and the connection.")


def _request(address: str) -> urllib.request.Request:
    """With the name and the password of the address where it has them: urllib takes none there."""
    parts = _parts(address)
    who, at, host = parts.netloc.rpartition("@")
    plain = urllib.parse.quote(urllib.parse.urlunsplit(parts._replace(netloc=host, fragment="")), safe=UNQUOTED)
    request = urllib.request.Request(plain)
    if at:
        token = base64.b64encode(urllib.parse.unquote(who).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    return request


def image_behind(source: str | Path, values: ValueRange | None = None) -> NDArray[np.uint8]:
    """The image uint8 [H, W, 3] BGR of a path or an address, as one of many. Raises DataError where there is none.

    values: of an image with more than 8 bits.
    """
    if not is_address(source):
        return read_image(source, values=values)
    image = image_at(str(source), values)
    if image is None:
        raise DataError(
            f"{public(source)} is no image, and a list is of images: call the model's results() on such a list."
        )
    return image


def file_of(address: str) -> Path:
    """The file on this machine that file:///folder/a.png is."""
    return Path(urllib.request.url2pathname(_parts(address).path))


def _parts(address: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(address)
    except ValueError as error:
        raise DataError(f"{public(address)} is no address ({first_line(error)}): check it.") from error


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
            if answer.length:
                raise ConnectionError(f"it ended after {len(content)} of {len(content) + answer.length} bytes")
            break
        if time.monotonic() > end:
            raise TimeoutError(f"not all of it came within {TOTAL_S:g} seconds")
    return bytes(content)

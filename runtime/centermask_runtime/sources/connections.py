# SPDX-License-Identifier: Apache-2.0
"""One connection to a stream or a camera: pictures with the times of its own clock, until it breaks."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.sources.addresses import is_address, public, scheme_of
from centermask_runtime.sources.decoding import (
    OPEN_S,
    Tally,
    open_container,
    pictures,
    pyav,
    reason_of,
    time_of,
    to_bgr,
)
from centermask_runtime.sources.options import SourceOptions

CLOCK_S = 2.0  # how far a stream's clock may be from ours before it is set anew
MOST_FPS = 1000
NO_CLOCK = ("mpjpeg", "mjpeg", "mjpeg_2000", "image2pipe", "jpeg_pipe")  # pictures one after the other, without times
DEVICES = Path("/dev")


@dataclass(frozen=True)
class Picture:
    """A picture that is made an array only where it is wanted."""

    time_s: float  # on the connection's clock
    image: Callable[[], NDArray[np.uint8]]  # uint8 [H, W, 3] BGR


class Connection(Protocol):
    """What is read once, by one thread, and then closed."""

    fps: Fraction | None
    file: Path | None

    @property
    def damaged(self) -> int:
        """Packets so far."""
        ...

    def pictures(self) -> Iterator[Picture | None]:
        """Pictures as they come; None now and then while none does. Raises DataError where it breaks."""
        ...

    def close(self) -> None: ...


def connect(source: str | int, options: SourceOptions) -> Connection:
    """Opens a camera by its number, or an address, or a file. Raises DataError, and UsageError without PyAV."""
    return _Camera(source) if isinstance(source, int) else _Address(source, options)


class _Address:
    """A stream behind an address, or a file, by FFmpeg."""

    def __init__(self, source: str, options: SourceOptions) -> None:
        address = is_address(source)
        scheme = scheme_of(source) if address else ""
        wanted: dict[str, str] = {"rtsp_transport": options.transport} if scheme in ("rtsp", "rtsps") else {}
        if options.realtime:
            wanted |= {"fflags": "nobuffer"}
        self._source = source
        self._container = open_container(source, options=wanted, timeouts=(OPEN_S, options.stall))
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "SLICE" if options.realtime else "AUTO"  # threads by frames are late by as many
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._arrives = address and self._container.format.name in NO_CLOCK  # FFmpeg's 25 per second are made up
        self.fps = Fraction(rate) if rate and rate <= MOST_FPS and not self._arrives else None
        self.file = None if address else Path(source)
        self._tally = Tally()

    @property
    def damaged(self) -> int:
        return self._tally.damaged

    def pictures(self) -> Iterator[Picture | None]:
        av = pyav("reading a stream")
        first_s: float | None = None
        begun = time.monotonic()
        number, fps = 0, self.fps or Fraction(25)
        try:
            for picture in pictures(self._container, self._stream, self._tally):
                if picture is None:
                    yield None
                    continue
                time_s = time_of(picture, self._stream)
                own_s = float(number / fps) if time_s is None else time_s
                if self._arrives:
                    own_s = time.monotonic() - begun
                first_s = own_s if first_s is None else first_s
                number += 1
                yield Picture(own_s - first_s, lambda picture=picture: to_bgr(picture))  # type: ignore[misc]
        except (av.FFmpegError, OSError) as error:
            raise DataError(reason_of(error)) from error

    def close(self) -> None:
        self._container.close()


class _Camera:
    """A camera of this machine, by OpenCV: PyAV's wheels know none."""

    file: Path | None = None
    damaged = 0

    def __init__(self, number: int) -> None:
        self._number = number
        _check_device(number)
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(number)
        finally:
            cv2.utils.logging.setLogLevel(level)
        if not self._capture.isOpened():
            raise DataError(
                f"Camera {number} gives no pictures: another program may be using it; close that, or give another one."
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = Fraction(rate).limit_denominator(1001) if 0 < rate <= MOST_FPS else None

    def pictures(self) -> Iterator[Picture | None]:
        begun = time.monotonic()
        while True:
            done, image = self._capture.read()
            if not done:
                raise DataError("it gives no more pictures")
            pixels = np.asarray(image, np.uint8)
            yield Picture(time.monotonic() - begun, lambda pixels=pixels: pixels)  # type: ignore[misc]

    def close(self) -> None:
        self._capture.release()


def _is_device(path: Path) -> bool:
    return path.name[5:].isdecimal() and path.is_char_device()


def _check_device(number: int) -> None:
    """Says what is wrong with a camera in Linux, where its file tells. Raises DataError."""
    if not sys.platform.startswith("linux"):
        return
    path = DEVICES / f"video{number}"
    if not path.exists():
        there = sorted(int(other.name[5:]) for other in path.parent.glob("video*") if _is_device(other))
        known = f"there {'is' if len(there) == 1 else 'are'} {', '.join(map(str, there))}" if there else "there is none"
        raise DataError(
            f"There is no camera {number}, {known} on this machine: check its cable, or give another number."
        )
    if not stat.S_ISCHR(path.stat().st_mode):
        raise DataError(f"{public(path)} is no camera's device: give another number, or the path where it is a video.")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        raise DataError(
            f"Camera {number} cannot be opened ({error.strerror}): close the program that uses it, or see who may read "
            f"{public(path)}."
        ) from error

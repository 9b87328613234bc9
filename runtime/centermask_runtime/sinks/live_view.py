# SPDX-License-Identifier: Apache-2.0
"""Drawn frames as they are found: in a window where there is a display, on a page of this machine where there is none.

Both show the newest frame and drop those that they are too slow for.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw
from centermask_runtime.sinks.live_page import LivePage
from centermask_runtime.sinks.sink import FileSink
from centermask_runtime.sources.source import Frame

TITLE = "CenterMask"
END_KEYS = (27, ord("q"))  # Esc


class Viewer(Protocol):
    """A place where pictures are looked at."""

    where: str  # in words

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Takes the newest picture uint8 [H, W, 3] BGR, in any thread."""
        ...

    def refresh(self) -> None:
        """Is called now and then by the main thread. Raises KeyboardInterrupt where whoever looks has enough."""
        ...

    def close(self) -> None: ...


class LiveSink(FileSink):
    """A Sink that draws each frame and shows it; refresh() is to be called by the main thread after each."""

    def __init__(self, style: DrawStyle = DEFAULT_STYLE) -> None:
        """Raises UsageError where a page cannot be served."""
        self.style: DrawStyle | None = style
        self._viewer: Viewer = LiveWindow() if has_display() else LivePage(TITLE)

    @property
    def where(self) -> str:
        """Where there is something to see, in words."""
        return self._viewer.where

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame."""
        if picture is None:
            picture = draw(frame.image, instances, self.style or DEFAULT_STYLE)
        self._viewer.show(picture)

    def refresh(self) -> None:
        """Raises KeyboardInterrupt where the window was closed, or q or Esc pressed in it."""
        self._viewer.refresh()

    def close(self) -> None:
        """The last picture goes."""
        self._viewer.close()

    def discard(self) -> None:
        """As close."""
        self._viewer.close()


class LiveWindow:
    """A window of OpenCV's; all of it happens in the main thread, as the systems' libraries want it."""

    def __init__(self) -> None:
        self.where = "a window; q or Esc in it ends the run"
        self._newest: NDArray[np.uint8] | None = None
        self._is_open, self._lock = False, threading.Lock()

    def show(self, picture: NDArray[np.uint8]) -> None:
        with self._lock:
            self._newest = picture

    def refresh(self) -> None:
        with self._lock:
            picture, self._newest = self._newest, None
        if picture is not None:
            if not self._is_open:
                cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)  # no tool bar
                cv2.resizeWindow(TITLE, picture.shape[1], picture.shape[0])
                self._is_open = True
            cv2.imshow(TITLE, picture)
        if not self._is_open:
            return
        key = cv2.waitKey(1) & 0xFF
        if key in END_KEYS or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            raise KeyboardInterrupt

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            cv2.destroyAllWindows()


def has_display() -> bool:
    """Whether OpenCV can open a window: it has the code for it, and a display answers."""
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "NONE")
    if "NONE" in gui:  # opencv-python-headless
        return False
    if not sys.platform.startswith("linux"):
        return True
    return _answers(os.environ.get("DISPLAY", ""))


def _answers(display: str) -> bool:
    """Whether an X server is there: the library behind the window ends the whole process where none is."""
    host, _, number = display.rpartition(":")
    screen = number.partition(".")[0]
    if not screen.isdecimal():
        return False
    try:
        if host in ("", "unix"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(f"/tmp/.X11-unix/X{screen}")
        else:
            socket.create_connection((host, 6000 + int(screen)), timeout=1).close()
    except OSError:
        return False
    return True

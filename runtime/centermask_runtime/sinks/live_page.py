# SPDX-License-Identifier: Apache-2.0
"""A page of this machine that shows the newest picture, for browsers here or at the other end of a tunnel."""

from __future__ import annotations

import html
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import UsageError

PORT = 8765  # another one where it is taken
QUALITY = 80  # of the JPEG pictures
PATIENCE_S = 1.0  # a viewer that is gone is noticed after so long without a picture
OWN_HOSTS = ("127.0.0.1", "localhost")
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{margin:0;background:#222}}img{{display:block;margin:auto;max-width:100vw;max-height:100vh}}</style>
<img src="/stream" alt="The newest picture">
"""


class LivePage:
    """A server of one page. Pictures are encoded once each, and only while somebody looks."""

    def __init__(self, title: str, port: int = PORT) -> None:
        """port: 0 for any. Raises UsageError where no port can be had."""
        self._title, self._jpeg, self._count = title, b"", 0
        self._news, self._closed = threading.Condition(), False
        self._last: NDArray[np.uint8] | None = None
        handler = type("Handler", (_Handler,), {"page": self})
        try:
            self._server = _server(port, handler)
        except OSError as error:
            raise UsageError(f"No page can be served on this machine ({error.strerror}): do without it.") from error
        self.where = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="live page", daemon=True).start()

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Takes the newest picture uint8 [H, W, 3] BGR."""
        with self._news:
            self._last = picture
            self._count += 1
            self._jpeg = b""
            self._news.notify_all()

    def refresh(self) -> None:
        """Nothing is to be done: the page lives in its own thread."""

    def close(self) -> None:
        """The page goes. Twice is as once."""
        with self._news:
            if self._closed:
                return
            self._closed = True
            self._news.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def newest(self, seen: int) -> tuple[int, bytes] | None:
        """The number and the JPEG of a picture after `seen`; no bytes when none came; None at the end."""
        with self._news:
            self._news.wait_for(lambda: self._closed or self._count > seen, PATIENCE_S)
            if self._closed:
                return None
            if self._count <= seen or self._last is None:
                return seen, b""
            if not self._jpeg:
                self._jpeg = cv2.imencode(".jpg", self._last, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
            return self._count, self._jpeg

    @property
    def html(self) -> bytes:
        """The page itself."""
        return PAGE.format(title=html.escape(self._title)).encode()


class _Handler(BaseHTTPRequestHandler):
    page: LivePage

    def do_GET(self) -> None:
        if self.headers.get("Host", "").partition(":")[0] not in OWN_HOSTS:  # another site's name that leads here
            self.send_error(403)
        elif self.path == "/":
            self._answer("text/html; charset=utf-8", self.page.html)
        elif self.path == "/stream":
            self._stream()
        else:
            self.send_error(404)

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self) -> None:
        """Picture after picture, as browsers show them in one <img>."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        seen = 0
        try:
            self.wfile.write(b"--picture\r\n")
            while (news := self.page.newest(seen)) is not None:
                seen, jpeg = news
                if jpeg:
                    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n--picture\r\n")  # shown when its end is seen
        except OSError:
            return  # whoever looked is gone

    def log_message(self, *arguments: Any) -> None:
        """A line per request helps nobody."""


def _server(port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError:
        return ThreadingHTTPServer(("127.0.0.1", 0), handler)

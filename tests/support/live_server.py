# SPDX-License-Identifier: Apache-2.0
"""A live camera on this machine, over HTTP, in real time: H.264 in MPEG-TS, or JPEG pictures as web cameras send them.

It can be cut, stall, change its size.
"""

from __future__ import annotations

import contextlib
import threading
import time
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np

FPS = 25


BOUNDARY = "picture"


class LiveServer:
    """Every frame is of one colour, so that it tells its stream. Requests get no length, as live streams do.

    jpeg_fps: how many JPEG pictures per second it sends, instead of MPEG-TS.
    """

    def __init__(self, colour=(0, 0, 255), size_hw=(48, 64), port=0, jpeg_fps=None):
        self.colour, self.size_hw, self.jpeg_fps = colour, size_hw, jpeg_fps
        self.stalled, self.code = False, 200
        self.cut = threading.Event()
        self.requests = 0
        server = self

        class Camera(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests += 1
                self.send_response(server.code)
                kind = "video/mp2t" if jpeg_fps is None else f"multipart/x-mixed-replace; boundary={BOUNDARY}"
                self.send_header("Content-Type", kind)
                self.end_headers()
                if server.code == 200:
                    with contextlib.suppress(OSError, av.FFmpegError):
                        film = server.film if jpeg_fps is None else server.photograph
                        film(self.wfile)

            def log_message(self, *_):
                pass

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.http = Http(("127.0.0.1", port), Camera)
        self.port = self.http.server_port
        self.url = f"http://127.0.0.1:{self.port}/camera"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def film(self, file):
        """Frames in real time, until the connection is cut or somebody is gone."""
        self.cut.clear()
        with av.open(_Unseekable(file), "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"tune": "zerolatency", "g": "5"})
            stream.height, stream.width = self.size_hw
            stream.pix_fmt, stream.thread_count = "yuv420p", 1
            image = np.full((*self.size_hw, 3), self.colour, np.uint8)
            begun = time.monotonic()
            number = 0
            while not self.cut.is_set():
                if self.stalled:
                    time.sleep(0.02)
                    continue
                picture = av.VideoFrame.from_ndarray(image, format="bgr24")
                picture.pts, picture.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(picture))
                file.flush()
                number += 1
                time.sleep(max(0.0, begun + number / FPS - time.monotonic()))

    def photograph(self, file):
        """JPEG pictures, which have no times, until the connection is cut or somebody is gone."""
        self.cut.clear()
        while not self.cut.is_set():
            picture = cv2.imencode(".jpg", np.full((*self.size_hw, 3), self.colour, np.uint8))[1].tobytes()
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            file.write(head.encode() + picture + b"\r\n")
            file.flush()
            time.sleep(1 / self.jpeg_fps)

    def close(self):
        self.cut.set()
        self.http.shutdown()
        self.http.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Unseekable:
    """What PyAV may write on; it must not know a place in it."""

    def __init__(self, file):
        self.write, self.flush = file.write, file.flush

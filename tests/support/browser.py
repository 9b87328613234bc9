# SPDX-License-Identifier: Apache-2.0
"""A real browser without a window: what Chromium makes of a video, in its own words."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SECONDS = 90  # on a machine that is busy
PAGE = b"""<!doctype html><video id=v></video><script>
const v = document.getElementById('v');
const say = what => fetch('/said', {method: 'POST', body: JSON.stringify(what)});
v.onerror = () => say({error: v.error.message});
v.onended = () => {
  const c = document.createElement('canvas'); c.width = v.videoWidth; c.height = v.videoHeight;
  const x = c.getContext('2d'); x.drawImage(v, 0, 0);
  say({width: v.videoWidth, height: v.videoHeight, duration: v.duration, sound_bytes: v.webkitAudioDecodedByteCount,
       frames: v.getVideoPlaybackQuality().totalVideoFrames,
       last_rgb: [...x.getImageData(c.width / 2, c.height / 2, 1, 1).data].slice(0, 3)});
};
v.src = '/video.mp4'; v.play().catch(error => say({error: String(error)}));
</script>"""


def chromium() -> str:
    """The browser's path; skips the test, with the reason, where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    return path


def played(video: Path) -> dict:
    """Plays a video to its end: its size as it is shown, its length in seconds, and the colour at its last middle."""
    said: queue.Queue[dict] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            is_video = self.path == "/video.mp4"
            content = video.read_bytes() if is_video else PAGE
            self.send_response(200)
            self.send_header("Content-Type", "video/mp4" if is_video else "text/html")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self):
            said.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, tempfile.TemporaryDirectory() as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        browser = subprocess.Popen(
            [chromium(), *options, f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return said.get(timeout=SECONDS)
        finally:
            browser.kill()
            browser.wait()
            server.shutdown()

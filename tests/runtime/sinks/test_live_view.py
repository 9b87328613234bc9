# SPDX-License-Identifier: Apache-2.0
"""Whoever looks sees the newest frame, drawn; without a display it is a page of this machine alone."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest

from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.sinks.live_page import LivePage
from centermask_runtime.sinks.live_view import LiveSink, has_display
from tests.support.awkward_masks import awkward_masks, frame_called, instances_of


def picture_of(stream):
    """The next picture of a multipart stream."""
    length = 0
    while (line := stream.readline()) != b"\r\n" or not length:
        assert line, "the stream has ended"
        if line.startswith(b"Content-Length:"):
            length = int(line.split(b":")[1])
    return cv2.imdecode(np.frombuffer(stream.read(length), np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture
def sink(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with LiveSink(DrawStyle(labels=False)) as opened:
        yield opened


def test_a_browser_gets_each_frame_drawn(sink):
    """Within 40 grey levels on average of noise: JPEG."""
    found = instances_of(awkward_masks())
    sink.add(frame_called("a"), found)
    with urllib.request.urlopen(f"{sink.where}/stream", timeout=20) as stream:
        assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        for index in range(3):
            sink.add(frame_called("a", index), found)
            expected = draw(frame_called("a", index).image, found, DrawStyle(labels=False))
            seen = picture_of(stream)
            while index == 0 and np.abs(seen.astype(int) - expected).mean() > 40:
                seen = picture_of(stream)
            assert np.abs(seen.astype(int) - expected).mean() < 40
            sink.refresh()


def test_the_page_holds_the_stream_and_is_for_this_machine_alone(sink):
    with urllib.request.urlopen(sink.where, timeout=20) as page:
        assert b'src="/stream"' in page.read()
    for path, host, code in (("/etc/passwd", "127.0.0.1", 404), ("/", "evil.example", 403)):
        request = urllib.request.Request(f"{sink.where}{path}", headers={"Host": host})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=20)
        assert refused.value.code == code
        refused.value.close()
    assert sink.where.startswith("http://127.0.0.1:")


def test_two_pages_have_two_ports_and_none_outlives_its_run():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        page = LivePage("two", taken.getsockname()[1])
        port = int(page.where.rpartition(":")[2])
        assert port != taken.getsockname()[1]
    page.close()
    page.close()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


def test_a_slow_viewer_never_holds_the_run_up(sink):
    with urllib.request.urlopen(f"{sink.where}/stream", timeout=20):
        for index in range(200):
            sink.add(frame_called("a", index), instances_of([]), np.zeros((480, 640, 3), np.uint8))


@pytest.mark.parametrize("display", ["", ":987", "nonsense", "localhost:9876.0", ":"])
def test_a_display_that_does_not_answer_is_none(monkeypatch, display):
    monkeypatch.setenv("DISPLAY", display)
    assert not has_display()

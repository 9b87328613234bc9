# SPDX-License-Identifier: Apache-2.0
"""Images behind http addresses, from a real server on this machine."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.sources import addresses
from centermask_runtime.sources.addresses import address_name, image_at, is_address
from centermask_runtime.sources.opening import open_source
from tests.support.small_pictures import picture, write_video


@pytest.fixture
def served(tmp_path):
    """The base address of a server that gives the files of tmp_path, and the folder."""

    class Files(BaseHTTPRequestHandler):
        def do_GET(self):
            path = tmp_path / urllib.parse.unquote(self.path.partition("?")[0].lstrip("/"))
            self.send_response(200 if path.is_file() else 404)
            content = path.read_bytes() if path.is_file() else b""
            self.send_header("Content-Type", "text/html" if path.suffix == ".html" else "image/png")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):  # whoever asked has seen enough
                if not path.name.startswith("slow"):
                    self.wfile.write(content)
                    return
                for place in range(len(content)):
                    self.wfile.write(content[place : place + 1])
                    time.sleep(0.02)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", tmp_path
        server.shutdown()


def test_an_image_is_read_whatever_its_address_is_called(served):
    base, folder = served
    (folder / "show").write_bytes(cv2.imencode(".png", picture(3))[1].tobytes())
    with open_source(f"{base}/show?size=big.jpg") as source:
        (frame,) = source
    assert (frame.name, source.info.name, source.info.count) == ("show", "show", 1)
    np.testing.assert_array_equal(frame.image, picture(3))


def test_a_video_is_left_to_ffmpeg(served):
    base, folder = served
    write_video(folder / "clip.mp4", count=3)
    assert image_at(f"{base}/clip.mp4") is None
    with open_source(f"{base}/clip.mp4?key=1") as source:
        assert [frame.name for frame in source] == ["clip_000000", "clip_000001", "clip_000002"]
    assert source.info.is_video and source.info.files == ()


def test_an_image_that_cannot_be_had_is_a_data_error(served, monkeypatch):
    base, folder = served
    with pytest.raises(DataError, match=r"none\.png cannot be read \(Not Found\): check the address"):
        image_at(f"{base}/none.png")
    (folder / "damaged.png").write_bytes(cv2.imencode(".png", picture(3))[1].tobytes()[:60])
    with pytest.raises(DataError, match=r"damaged\.png is not an image"):
        image_at(f"{base}/damaged.png")
    monkeypatch.setattr(addresses, "MOST_BYTES", 1 << 20)
    noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / "large.png"), noise)
    with pytest.raises(DataError, match="has more than 1 MB"):
        image_at(f"{base}/large.png")


def test_an_address_that_gives_a_byte_now_and_then_has_an_end(served, monkeypatch):
    base, folder = served
    cv2.imwrite(str(folder / "slow.png"), picture(3))
    monkeypatch.setattr(addresses, "TOTAL_S", 0.5)
    assert (folder / "slow.png").stat().st_size * 0.02 > 1
    with pytest.raises(DataError, match=r"slow\.png cannot be read \(not all of it came within 0\.5 seconds\): check"):
        image_at(f"{base}/slow.png")


def test_a_web_page_is_called_one(served):
    base, folder = served
    (folder / "page.html").write_text("<!doctype html><title>No image</title>")
    with pytest.raises(DataError, match="is a web page and no image or video: give the image's own address"):
        open_source(f"{base}/page.html")


def test_letters_and_spaces_may_stand_in_an_address(served):
    base, folder = served
    (folder / "a ü猫.png").write_bytes(cv2.imencode(".png", picture(3))[1].tobytes())
    for name in ("a ü猫.png", "a%20%C3%BC%E7%8C%AB.png"):
        np.testing.assert_array_equal(image_at(f"{base}/{name}"), picture(3))


def test_an_address_among_others_is_fetched_in_lists_and_generators(served):
    base, folder = served
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), picture(3))
    given = [f"{base}/a.png", folder / "b.png", (folder / "a.png").as_uri()]
    for source in (given, (part for part in given)):
        with open_source(source) as opened:
            found = list(opened)
        assert [frame.name for frame in found] == ["a.png", "b.png", "a_2.png"]
        assert [frame.file for frame in found] == [None, folder / "b.png", folder / "a.png"]
    with open_source((folder / "a.png").as_uri()) as opened:
        assert [frame.name for frame in opened] == ["a.png"]


def test_nobody_listening_is_a_data_error():
    with pytest.raises(DataError, match=r"cannot be read .*: check the address and the connection"):
        image_at("http://127.0.0.1:9/a.png")


def test_only_http_is_asked_for_images():
    assert image_at("rtsp://camera/1") is None and image_at("file:///etc/hostname") is None


def test_addresses_and_their_names():
    assert is_address("https://host/a.jpg") and not is_address("folder/a.jpg")
    assert address_name("https://host/a%20b.jpg?x=1#y") == "a b.jpg" and address_name("rtsp://camera") == "camera"
    assert address_name("https://host/..%2F..%2Fsecret.png") == "secret.png"


@pytest.fixture
def answering():
    """Starts a server that answers each request with bytes as they are, one after the other or all at once."""
    with contextlib.ExitStack() as stack:

        def start(answer, wait_s=0.0):
            def serve():
                with contextlib.suppress(OSError):  # whoever asked has gone
                    while True:
                        connection, _ = listening.accept()
                        with connection:
                            connection.recv(4096)
                            for place in range(len(answer)) if wait_s else ():
                                connection.sendall(answer[place : place + 1])
                                time.sleep(wait_s)
                            if not wait_s:
                                connection.sendall(answer)

            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.callback(listening.shutdown, socket.SHUT_RDWR)
            threading.Thread(target=serve, daemon=True).start()
            return f"http://127.0.0.1:{listening.getsockname()[1]}"

        yield start


def test_a_head_that_comes_byte_by_byte_has_an_end(answering, monkeypatch):
    monkeypatch.setattr(addresses, "HEAD_S", 0.3)
    address = answering(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000, wait_s=0.02)
    with pytest.raises(DataError, match=r"cannot be read \(it did not answer within 0\.3 seconds\): check the address"):
        open_source(f"{address}/a.png")


def test_an_image_that_breaks_off_is_told_as_that(answering):
    content = cv2.imencode(".png", picture(3))[1].tobytes()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    address = answering(head + content[:50])
    with pytest.raises(DataError, match=rf"cannot be read \(it ended after 50 of {len(content)} bytes\): check"):
        open_source(f"{address}/a.png")


def test_redirections_without_an_end_are_one_sentence_on_one_line(answering):
    address = answering(b"HTTP/1.1 302 Found\r\nLocation: /a.png\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(DataError, match=r"cannot be read \(.*infinite loop\.?\): check the address") as refused:
        open_source(f"{address}/a.png")
    assert "\\n" not in str(refused.value) and "\n" not in str(refused.value)

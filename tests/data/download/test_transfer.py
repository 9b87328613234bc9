# SPDX-License-Identifier: Apache-2.0
"""Downloads from a real HTTP server on this machine: broken off and gone on with, damaged, refused, unpacked safely."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from centermask.cli import main
from centermask.data.dataset import load_dataset
from centermask.data.download import transfer as module
from centermask.data.download.extract import extract
from centermask.data.download.transfer import ARCHIVES, Archive, archives_of, download
from centermask.data.formats.layouts import find_split
from centermask_runtime.errors import CenterMaskError, DataError, UsageError
from tests.support.nuclei_polygons import write_polygons

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()


class Server:
    """Files in memory; each answer may be cut, and ranges may be unknown."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: list[int] = []  # bytes after which the next answers break off
        self.ranges = True
        self.code: int | None = None  # instead of the file
        self.asked: list[str | None] = []  # the Range of each request
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        body = self.files.get(request.path.rpartition("/")[2])
        if self.code is not None or body is None:
            request.send_error(self.code or 404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0
        if start >= len(body) and start:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(body)}")
            request.end_headers()
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        rest = body[start:]
        request.wfile.write(rest[: self.cut.pop(0)] if self.cut else rest)

    def serve(self, name: str, content: bytes) -> Archive:
        self.files[name] = content
        return Archive(f"{self.url}/{name}", hashlib.md5(content).hexdigest())


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    yield serving
    serving.http.shutdown()
    serving.http.server_close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)


def silent(title: str, done: int, total: int | None) -> None:
    pass


def test_a_file_arrives_whole_under_its_name(server, tmp_path):
    seen = []
    archive = server.serve("a.zip", CONTENT)
    path = download(archive, tmp_path / "new", lambda *state: seen.append(state))
    assert path.read_bytes() == CONTENT and [file.name for file in path.parent.iterdir()] == ["a.zip"]
    assert ("a.zip", len(CONTENT), len(CONTENT)) in seen and ("check a.zip", len(CONTENT), len(CONTENT)) in seen
    assert download(archive, tmp_path / "new", silent) == path and len(server.asked) == 1  # it is there
    path.write_bytes(CONTENT[1:])
    with pytest.raises(DataError, match=r"a\.zip has the MD5 sum .*remove it and run the command again"):
        download(archive, tmp_path / "new", silent)
    assert path.read_bytes() == CONTENT[1:]  # it may be the user's


def test_a_transfer_that_breaks_off_goes_on_where_it_was(server, tmp_path):
    archive = server.serve("a.zip", CONTENT)
    server.cut = [1_000_000, 0, 500_000]
    assert download(archive, tmp_path, silent).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000000-", "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_goes_on_with_what_an_earlier_one_left(server, tmp_path):
    archive = server.serve("a.zip", CONTENT)
    server.cut = [700_000] + [0] * 9
    with pytest.raises(CenterMaskError, match=r"a\.zip broke off at 700000 bytes .*run the command again"):
        download(archive, tmp_path, silent)
    assert (tmp_path / "a.zip.part").stat().st_size == 700_000 and not (tmp_path / "a.zip").exists()
    server.cut, server.asked = [], []
    assert download(archive, tmp_path, silent).read_bytes() == CONTENT
    assert server.asked == ["bytes=700000-"]


def test_a_whole_part_is_only_checked(server, tmp_path):
    archive = server.serve("a.zip", CONTENT)
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert download(archive, tmp_path, silent).read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, tmp_path):
    archive = server.serve("a.zip", CONTENT)
    (tmp_path / "a.zip.part").write_bytes(CONTENT + b"more")
    assert download(archive, tmp_path, silent).read_bytes() == CONTENT


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    archive = server.serve("a.zip", CONTENT)
    server.ranges = False
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    assert download(archive, tmp_path, silent).read_bytes() == CONTENT


def test_a_damaged_file_is_refused_and_removed(server, tmp_path):
    archive = server.serve("a.zip", CONTENT)
    server.files["a.zip"] = CONTENT[:100] + b"\0" + CONTENT[101:]
    with pytest.raises(DataError, match=rf"has the MD5 sum [0-9a-f]{{32}}, not {archive.md5}.*run the command again"):
        download(archive, tmp_path, silent)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_part_is_found_by_the_sum_of_the_whole(server, tmp_path):
    archive = server.serve("a.zip", CONTENT)
    (tmp_path / "a.zip.part").write_bytes(b"x" * 5000)
    with pytest.raises(DataError, match="MD5"):
        download(archive, tmp_path, silent)
    assert download(archive, tmp_path, silent).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("code", "says"),
    [(404, "answers 404"), (403, "answers 403"), *((code, "broke off at 0 bytes") for code in (408, 429, 503))],
)
def test_what_the_server_refuses_is_said(server, tmp_path, code, says):
    archive = server.serve("a.zip", CONTENT)
    server.code = code
    with pytest.raises(CenterMaskError, match=says):
        download(archive, tmp_path, silent)
    assert len(server.asked) == (1 if code in (403, 404) else module.RETRIES)


def test_a_server_that_is_not_there_is_said(tmp_path):
    with pytest.raises(CenterMaskError, match=r"Connection refused.*put it at .*a\.zip"):
        download(Archive("http://127.0.0.1:9/a.zip", ""), tmp_path, silent)


def test_a_full_disk_and_a_file_in_the_way_are_said(server, tmp_path, monkeypatch):
    archive = server.serve("a.zip", CONTENT)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        download(archive, tmp_path / "file", silent)
    free = shutil_usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil_usage._replace(free=1000))
    with pytest.raises(CenterMaskError, match=r"needs 0\.0 GB, but .* has 0\.0 GB left"):
        download(archive, tmp_path, silent)
    assert free.free > 1000


def zipped(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return content.getvalue()


def tarred(mode: str, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as opened:
        for info, data in members:
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return content.getvalue()


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info, b""


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz"])
def test_archives_are_unpacked_and_whole_files_left_alone(tmp_path, mode):
    files = {"top/a.txt": b"one", "top/deep/b.bin": CONTENT[:5000], "c": b""}
    content = zipped(**files) if mode == "zip" else tarred(mode, *((tarfile.TarInfo(k), v) for k, v in files.items()))
    (tmp_path / "archive").write_bytes(content)
    seen = []
    for _ in range(2):
        assert extract(tmp_path / "archive", tmp_path / "out", lambda *state: seen.append(state)) == 3
        for name, data in files.items():
            assert (tmp_path / "out" / name).read_bytes() == data
        (tmp_path / "out" / "top" / "a.txt").write_text("cut")  # the same size
        files["top/a.txt"] = b"cut"
    assert seen[-1] == ("unpack archive", 5003, 5003)
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a.txt", "b.bin", "c", "deep", "top"]


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "..\\evil", "C:\\evil"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_refused_before_anything_is_written(tmp_path, name, kind):
    members = [(tarfile.TarInfo("good"), b"1"), (tarfile.TarInfo(name), b"2")]
    content = zipped(**{"good": b"1", name: b"2"}) if kind == "zip" else tarred("w", *members)
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(DataError, match="leads out of the folder"):
        extract(tmp_path / "archive", tmp_path / "out", silent)
    assert [path.name for path in tmp_path.rglob("*")] == ["archive"]


def test_links_are_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(tarred("w", link("x", "/etc"), (tarfile.TarInfo("x/passwd"), b"2")))
    info = zipfile.ZipInfo("x")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(info, "/etc")
    for archive in (tmp_path / "a.tar", tmp_path / "a.zip"):
        with pytest.raises(DataError, match="'x', a link"):
            extract(archive, tmp_path / "out", silent)
    assert not (tmp_path / "out").exists()


def test_damage_that_the_archive_can_show_leaves_no_half_file(tmp_path):
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as opened:
        opened.writestr("a.bin", CONTENT)
    damaged = bytearray(stored.getvalue())
    damaged[1000] ^= 1
    zipped_tar = bytearray(gzip.compress(tarred("w", (tarfile.TarInfo("a.bin"), CONTENT))))
    zipped_tar[-6] ^= 1  # in the CRC-32
    for name, content in {"a.zip": bytes(damaged), "a.tgz": bytes(zipped_tar), "no.zip": b"x" * 99}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} is damaged .*download it again"):
            extract(tmp_path / name, tmp_path / "out", silent)
    assert list((tmp_path / "out").iterdir()) == [] if (tmp_path / "out").exists() else True


def test_splits_choose_among_the_archives():
    names = [[archive.name for archive in archives_of("coco", splits)] for splits in ((), ("val",), ("train", "val"))]
    assert names[1] == ["annotations_trainval2017.zip", "val2017.zip"]
    assert names[0] == names[2] == [*names[1], "train2017.zip"]
    with pytest.raises(UsageError, match="no split 'test' to download alone; its splits are train, val"):
        archives_of("coco", ("test",))
    with pytest.raises(UsageError, match="comes as a whole"):
        archives_of("voc", ("val",))
    for archive in (archive for archives in ARCHIVES.values() for archive in archives):
        assert re.fullmatch("[0-9a-f]{32}", archive.md5) and archive.url.startswith("http://")


def run(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_the_command_leaves_a_data_set_that_data_finds(server, tmp_path, monkeypatch, capsys):
    """COCO in small from real images: three archives of the published names, under other sums."""
    source = write_polygons(tmp_path / "source")
    archives = []
    for archive in ARCHIVES["coco"]:
        split = archive.splits[0] if archive.splits else None
        folder = source / (split or "annotations")
        files = {
            (f"{split}2017/{file.name}" if split else f"annotations/{file.stem}2017.json"): file.read_bytes()
            for file in folder.iterdir()
        }
        served = server.serve(archive.name, zipped(**files))
        archives.append(Archive(served.url, served.md5, archive.splits))
    monkeypatch.setitem(ARCHIVES, "coco", tuple(archives))
    monkeypatch.setenv("CENTERMASK_DATASETS", str(tmp_path / "root"))
    server.cut = [300]
    assert run("download", "coco", "--split", "val") == 0
    folder = tmp_path / "root" / "coco"
    assert f"--data {folder}" in capsys.readouterr().out
    assert len(load_dataset(find_split(folder, "val"))) == 3 and not (folder / "train2017").exists()
    before = len(server.asked)
    assert run("download", "coco", "--keep", "--mirror", f"{server.url}/") == 0
    assert len(server.asked) == before + 1, "what is unpacked is not fetched again"
    assert len(load_dataset(find_split(folder, "train"))) == 3
    assert [path.name for path in folder.glob("*.zip")] == ["train2017.zip"]
    assert run("doctor", "--data", "coco") == 0


def test_a_mirror_cannot_pass_off_another_file(server, tmp_path, capsys):
    server.files["VOCtrainval_11-May-2012.tar"] = tarred("w", (tarfile.TarInfo("a"), b"1"))
    assert run("download", "voc", "--output", str(tmp_path), "--mirror", server.url) == 3
    assert "not 6cd6e144f989b92b3379bac3b3de84fd" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert run("download", "voc", "--output", str(tmp_path), "--mirror", "file:///etc") == 2
    assert "must be an http" in capsys.readouterr().err
    assert run("download", "imagenet") == 2

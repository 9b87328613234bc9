# SPDX-License-Identifier: Apache-2.0
"""Downloads from a real HTTP server on this machine: broken off and gone on with, damaged, refused."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

from centermask.data.download import transfer as module
from centermask.data.download.transfer import ARCHIVES, Archive, archives_of, download
from centermask_runtime.errors import CenterMaskError, DataError, UsageError
from tests.support.file_server import FileServer

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, np.uint8).tobytes()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as serving:
        yield serving


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

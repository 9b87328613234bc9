# SPDX-License-Identifier: Apache-2.0
"""Archives are unpacked whole, and nothing is written outside of the folder, whatever they hold."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import numpy as np
import pytest

from centermask.data.download.extract import extract
from centermask_runtime.errors import DataError
from tests.support.archives import tarred, zipped

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8).tobytes()


def silent(title: str, done: int, total: int | None) -> None: ...


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

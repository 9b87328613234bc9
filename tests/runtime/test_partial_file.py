# SPDX-License-Identifier: Apache-2.0
"""A file that is whole or not there: while it is written, after an error, on a full disk, where there is no place."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from centermask_runtime.errors import DiskFullError, UsageError
from centermask_runtime.partial_file import PartialFile, write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_has_its_name_only_when_it_is_complete(tmp_path, durable):
    path = tmp_path / "new" / "a.bin"
    with PartialFile(path, durable=durable) as file:
        file.write(b"whole")
        assert not path.exists() and file.partial.read_bytes() == b"whole"
    assert path.read_bytes() == b"whole" and list(path.parent.iterdir()) == [path]


def test_after_an_error_the_old_file_stays_and_nothing_else(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), PartialFile(path) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_write_whole_replaces(tmp_path):
    for content in (b"one", b"two"):
        write_whole(tmp_path / "a", content)
    assert (tmp_path / "a").read_bytes() == b"two"


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFullError, match=r"a cannot be written on \(No space left on device\): .* free some space"):
        write_whole(tmp_path / "a", b"content")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("place", "reason"), [("folder", "it is a folder"), ("file/a", "not a directory|file exists")])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, place, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(UsageError, match=f"{place} cannot be written, ({reason}): choose another output"):
        PartialFile(tmp_path / place)
    assert sorted(one.name for one in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "ü" * 125 + ".txt"])
def test_a_name_as_long_as_a_file_system_takes_is_written(tmp_path, name):
    with PartialFile(tmp_path / name) as file:
        file.write(b"whole")
        assert file.partial.exists() and not (tmp_path / name).exists()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"whole")]


def test_long_names_that_begin_alike_have_temporary_names_of_their_own(tmp_path):
    with PartialFile(tmp_path / ("n" * 250 + "a")) as one, PartialFile(tmp_path / ("n" * 250 + "b")) as other:
        assert one.partial != other.partial

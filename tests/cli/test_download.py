# SPDX-License-Identifier: Apache-2.0
"""`centermask download` against a server of its own: what it leaves is a data set."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

import pytest

from centermask.cli import main
from centermask.data.dataset import load_dataset
from centermask.data.download import transfer as module
from centermask.data.download.transfer import ARCHIVES, Archive
from centermask.data.formats.layouts import find_split
from tests.support.archives import tarred, zipped
from tests.support.file_server import FileServer
from tests.support.nuclei_polygons import write_polygons


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as serving:
        yield serving


@pytest.fixture(autouse=True)
def at_once(monkeypatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)


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

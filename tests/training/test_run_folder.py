# SPDX-License-Identifier: Apache-2.0
"""The folder of a run: its name, its files, a full disk."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
from collections.abc import Iterator

import pytest
import torch

from centermask.config import Config
from centermask.training.run_folder import DataSource, RunFolder
from centermask_runtime.errors import CenterMaskError, DataError, UsageError
from tests.support.written_layouts import opened, yolo

CONFIG = Config("tiny")


def test_run_folders_count_up(tmp_path):
    sources = DataSource("a", "b"), DataSource("c", "d")
    for name in ("x", "x2", "x3"):
        for _ in range(2):  # choosing takes no name, starting does
            run = RunFolder.choose(tmp_path / "runs" / "train", "x")
            assert run.path.name == name and not run.path.exists()
        run.start(CONFIG, sources)
    (tmp_path / "file").write_text("")
    for taken in (RunFolder.choose(tmp_path / "file", "x"), run):
        with pytest.raises(UsageError, match=r"cannot be made .*; choose another folder"):
            taken.start(CONFIG, sources)


def test_a_run_notes_the_layout_of_its_data_sets(tmp_path):
    """Not guessed again when it is resumed; runs that noted none, as older ones, are told by their files."""
    dataset = opened(yolo(tmp_path / "pets"), "val")
    run = RunFolder(tmp_path / "x")
    run.start(CONFIG, (DataSource.of(dataset), DataSource.of(dataset)))
    noted = json.loads((run.path / "data.json").read_text())
    assert [(one["split"], one["layout"]) for one in noted] == [("val", "YOLO-seg")] * 2
    _, sources = run.read()
    older = [{key: one[key] for key in ("annotations", "images")} for one in noted]
    (run.path / "data.json").write_text(json.dumps(older))
    for source in (*sources, *run.read()[1]):
        again = source.load()
        assert again.images == dataset.images and again.converted == dataset.converted
    with pytest.raises(DataError, match=r"of the layout 'YOLO', which is unknown; did you mean 'YOLO-seg'\?"):
        dataclasses.replace(sources[0], layout="YOLO").load()


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path):
    run = RunFolder(tmp_path)
    run.save_checkpoint({"step": 1})
    with pytest.raises(Exception, match="pickle"):
        run.save_checkpoint({"step": lambda: None})
    assert run.load_checkpoint() == {"step": 1}
    assert [path.name for path in run.path.iterdir()] == ["checkpoint.pt"]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can grow beyond 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path):
    run, source = RunFolder(tmp_path / "x"), DataSource("a", "b")
    with pytest.raises(CenterMaskError, match=r"args\.yaml cannot be written"), full_disk():
        run.start(CONFIG, (source, source))
    with pytest.raises(CenterMaskError, match=r"checkpoint\.pt cannot be written; make room on the disk"), full_disk():
        run.save_checkpoint({"model": torch.zeros(1000)})
    with pytest.raises(CenterMaskError, match=r"results\.csv cannot be written"), full_disk():
        for epoch in range(1, 50):
            run.append_results({"epoch": epoch})
    assert run.results.read_text().startswith("epoch\n1\n2\n") and run.results.read_text().endswith("\n")
    assert {path.name for path in run.path.iterdir()} == {"weights", "results.csv"}

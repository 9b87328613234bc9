# SPDX-License-Identifier: Apache-2.0
"""A job that was stopped anywhere ends with the files that it would have had without it, on the same terms only."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.sinks.coco_json import CocoSink
from centermask_runtime.sinks.job import Job, model_digest
from tests.support.awkward_masks import CATEGORY_IDS, NAMES, awkward_masks, frame_called, instances_of

SPEC = SimpleNamespace(class_names=NAMES, category_ids=CATEGORY_IDS)
TERMS = {"model": "ab" * 32, "conf": 0.3}


@pytest.fixture
def frames(tmp_path):
    """Frames of five files, the third without objects."""
    (tmp_path / "in").mkdir()
    made = []
    for index in range(5):
        path = tmp_path / "in" / f"{index}.png"
        path.write_bytes(bytes([index]) * 10)
        made.append(dataclasses.replace(frame_called(path.name, index), file=path))
    return made


def found_in(frame):
    ids = np.arange(9) + 3 if frame.index % 2 else None
    return instances_of([]) if frame.index == 2 else instances_of(awkward_masks(frame.index), ids)


def go(folder, frames, count=None, terms=TERMS):
    """Runs the job until `count` frames more are done -> the names of those that were done in this run."""
    job = Job(folder, terms)
    done = job.done({frame.name: frame.file for frame in frames})
    todo = [frame for frame in frames if frame.name not in done][:count]
    with CocoSink(folder / "r.json", NAMES, CATEGORY_IDS) as coco, job.sink(done, SPEC, [coco]) as sink:
        for frame in todo:
            for one in (coco, sink):
                one.add(frame, found_in(frame))
    return [frame.name for frame in todo]


def test_after_any_stop_the_file_of_all_frames_is_the_same_to_the_byte(tmp_path, frames):
    (tmp_path / "whole").mkdir()
    assert len(go(tmp_path / "whole", frames)) == 5
    for stop in range(6):
        folder = tmp_path / f"stopped{stop}"
        folder.mkdir()
        assert len(go(folder, frames, stop)) == stop
        assert go(folder, frames) == [f"{index}.png" for index in range(stop, 5)]
        assert (folder / "r.json").read_bytes() == (tmp_path / "whole" / "r.json").read_bytes()


def test_a_line_that_was_torn_by_a_kill_is_done_again(tmp_path, frames):
    (tmp_path / "out").mkdir()
    go(tmp_path / "out", frames, 3)
    lines = tmp_path / "out" / ".centermask" / "done.jsonl"
    lines.write_bytes(lines.read_bytes()[:-20])
    assert go(tmp_path / "out", frames) == ["2.png", "3.png", "4.png"]


def test_a_file_that_was_changed_since_is_not_done(tmp_path, frames):
    (tmp_path / "out").mkdir()
    go(tmp_path / "out", frames)
    frames[1].file.write_bytes(b"another picture")
    assert go(tmp_path / "out", frames) == ["1.png"] and go(tmp_path / "out", frames) == []


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (TERMS | {"model": "cd" * 32}, r"was begun with model abababababababab\.\.\., and now it is cdcdcdcd"),
        (
            TERMS | {"conf": 0.5},
            r"was begun with conf 0\.3, and now it is 0\.5: go on as it was begun, or choose",
        ),
        ({"model": TERMS["model"]}, "was begun with conf 0.3, and now it is nothing"),
        (TERMS | {"max-det": 5}, "was begun with max-det nothing, and now it is 5"),
    ],
)
def test_other_terms_are_refused_with_what_differs(tmp_path, frames, terms, sentence):
    (tmp_path / "out").mkdir()
    go(tmp_path / "out", frames, 2)
    with pytest.raises(UsageError, match=sentence):
        Job(tmp_path / "out", terms)


def test_a_folder_with_results_of_no_job_is_refused(tmp_path):
    (tmp_path / "0.png").write_text("")
    with pytest.raises(UsageError, match="holds files, and not those of a job"):
        Job(tmp_path, TERMS)


def test_a_damaged_job_is_refused(tmp_path):
    Job(tmp_path, TERMS)
    (tmp_path / ".centermask" / "job.json").write_text("{")
    with pytest.raises(UsageError, match=r"job\.json cannot be read: remove its folder"):
        Job(tmp_path, TERMS)


def test_whether_all_was_done_is_remembered(tmp_path):
    job = Job(tmp_path, TERMS)
    assert not job.is_finished and not Job(tmp_path, TERMS).is_finished
    job.finish()
    assert Job(tmp_path, TERMS).is_finished


def test_weights_beside_an_openvino_file_are_part_of_the_model(tmp_path):
    (tmp_path / "m.xml").write_text("graph")
    (tmp_path / "m.bin").write_bytes(b"one")
    one = model_digest(tmp_path / "m.xml")
    assert one == model_digest(tmp_path)
    (tmp_path / "m.bin").write_bytes(b"two")
    assert model_digest(tmp_path / "m.xml") != one

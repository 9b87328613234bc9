# SPDX-License-Identifier: Apache-2.0
"""All splits of a data set: nothing is said of a sound one, and everything of one in another layout."""

from __future__ import annotations

from benchmarks.three_layouts import write_yolo
from centermask.data.dataset import load_dataset
from centermask.data.doctor.examine import examine
from centermask.data.formats.layouts import find_split, recognise
from tests.support.sound_data import found, sound_contents


def test_a_sound_data_set_has_no_findings(sound):
    assert found(sound[0]) == {}
    report = examine(recognise(sound[0]))
    assert report.images == {"train": 3, "val": 3}
    for split, counted in report.objects.items():
        dataset = load_dataset(find_split(sound[0], split))
        names = [dataset.class_names[one.label] for index in range(3) for one in dataset.objects(index)]
        assert counted == {name: names.count(name) for name in dataset.class_names}


def test_faults_of_yolo_labels_are_all_named_with_their_lines(tmp_path):
    for split, (content, images) in sound_contents().items():
        write_yolo(tmp_path, split, content, images)
    assert found(tmp_path) == {}
    labels = sorted((tmp_path / "labels" / "train").iterdir())[0]
    lines = labels.read_text().splitlines()
    lines += ["0 .5 .5 .2 .2", "0 .5 .5 .2 .2", "7 .1 .1 .5 .1 .5 .5", "0 .1 .1", lines[0]]
    lines += ["0 .1 .1 .4 .4 .4 .1 .1 .4"]
    labels.write_text("\n".join(lines))
    findings = found(tmp_path)
    assert {kind: count for kind, (count, _) in findings.items()} == {
        "box-only": 2, "bad-label-line": 2, "duplicate-object": 1, "self-crossing-polygon": 1,
    }  # fmt: skip
    assert f"{labels.name} line {len(lines) - 5}" in findings["box-only"][1][0]
    assert f"{labels.name} line {len(lines)}" in findings["self-crossing-polygon"][1][0]

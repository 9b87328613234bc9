# SPDX-License-Identifier: Apache-2.0
"""Splits against each other: equal and nearly equal images, and classes that are rare or differ."""

from __future__ import annotations

import json

from centermask.data.doctor.files import Print, facts_of
from centermask.data.doctor.splits import near_duplicates
from tests.support.sound_data import found


def test_classes_that_are_rare_or_differ_between_splits_are_named(sound):
    folder, content = sound
    few = [one for one in content["annotations"] if one["category_id"] == 90][3:]
    content["annotations"] = [one for one in content["annotations"] if one not in few]
    content["categories"][0]["name"] = "tiny"
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    findings = found(folder)
    assert findings["class-rare"][1] == ["train: large, 3 objects"] and findings["class-lists-differ"][0] == 1


def test_equal_files_in_one_split_are_named(sound):
    folder, _ = sound
    one, other = sorted((folder / "val").iterdir())[:2]
    other.write_bytes(one.read_bytes())
    findings = found(folder)
    assert findings["duplicate-image"][0] == 1 and "leakage" not in findings
    assert one.name in findings["duplicate-image"][1][0] and other.name in findings["duplicate-image"][1][0]


def test_different_real_images_are_no_near_duplicates(shared_data):
    images = sorted((shared_data / "coco" / "val2017").iterdir())[:40]
    prints = [Print(path.name, b"", facts_of(path).thumbnail) for path in images]
    assert near_duplicates(prints[:20], prints[20:]) == []
    pairs = [(one.where, other.where) for one, other in near_duplicates(prints, prints)]
    assert pairs == [(one.where, one.where) for one in prints]

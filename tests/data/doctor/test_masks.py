# SPDX-License-Identifier: Apache-2.0
"""What is hardly meant about masks, boxes and areas is named, and pycocotools agrees."""

from __future__ import annotations

import json

import pytest
from pycocotools import mask as coco_mask

from centermask.data.dataset import load_dataset
from centermask.data.doctor.examine import examine
from centermask.data.doctor.findings import KINDS, Severity
from centermask.data.formats.layouts import find_split, recognise
from centermask_runtime.errors import DataError
from tests.support.sound_data import entry, found, shape_of, truth

BOW_TIE = [10.0, 10.0, 40.0, 40.0, 40.0, 10.0, 10.0, 40.0]


def test_a_self_crossing_outline_is_named_and_pycocotools_fills_less_than_its_hull(sound):
    folder, content = sound
    runs = coco_mask.frPyObjects([BOW_TIE], *shape_of(content))[0]
    entry(content, segmentation=[BOW_TIE], area=int(coco_mask.area(runs)), bbox=coco_mask.toBbox(runs).tolist())
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert list(found(folder)) == ["self-crossing-polygon"]
    mask = truth(folder).annToMask(content["annotations"][0])
    assert mask.sum() < 0.6 * 30 * 30 and not mask[12, 25], "two triangles, not the square around them"


@pytest.mark.parametrize(
    ("kind", "box", "polygon"),
    [
        ("outside-image", [9000.0, 5.0, 20.0, 20.0], None),
        ("outside-image", None, [-30.0, 5.0, -5.0, 5.0, -5.0, 30.0]),
        ("outside-image", None, [5.0, 5.0, 1e12, 5.0, 5.0, 1e12]),
        ("beyond-image", None, [-30.0, 5.0, 25.0, 5.0, 25.0, 30.0, -30.0, 30.0]),
    ],
)
def test_what_leaves_its_image_is_named(sound, kind, box, polygon):
    folder, content = sound
    if polygon is not None and max(polygon) > 1e9:
        entry(content, segmentation=[polygon])  # pycocotools would walk along it until memory ends
    elif polygon is not None:
        runs = coco_mask.frPyObjects([polygon], *shape_of(content))[0]
        entry(content, segmentation=[polygon], area=int(coco_mask.area(runs)))
        content["annotations"][0].pop("bbox")
        inside = coco_mask.toBbox(runs)
        assert (inside[0] >= 0) and inside[2] < 60, "pycocotools clips"
    if box is not None:
        entry(content, bbox=box)
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    findings = found(folder)
    assert set(findings) - {"zero-area-mask", "box-mask-mismatch"} == {kind}
    if KINDS[kind].severity is Severity.ERROR:
        with pytest.raises(DataError, match=r"lies outside of its image|far from its image"):
            load_dataset(find_split(folder, "train"))


def test_crowds_are_neither_counted_nor_held_against_their_area(sound):
    folder, content = sound
    entry(content, iscrowd=1, area=5)
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert found(folder) == {}
    assert sum(examine(recognise(folder)).objects["train"].values()) == len(content["annotations"]) - 1


@pytest.mark.parametrize("counts", ["abc", "P", [3, 4], [-5, 9], ["7"], None, 12])
def test_run_lengths_that_are_not_the_whole_image_are_damaged(sound, counts):
    folder, content = sound
    entry(content, segmentation={"size": shape_of(content), "counts": counts})
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert set(found(folder)) == {"damaged-rle"}

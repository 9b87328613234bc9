# SPDX-License-Identifier: Apache-2.0
"""The results of many frames as a COCO file: pycocotools loads it, and it is written frame by frame or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.sinks.coco_json import CocoSink
from centermask_runtime.sources.source import Frame
from tests.support.small_pictures import names_in


def instances_of(masks):
    masks = np.asarray(masks, bool)
    n, height, width = masks.shape
    rects = np.tile(np.array([0, 0, width, height], np.int32), (n, 1))
    return Instances(
        (height, width),
        rects.astype(np.float32),
        np.linspace(0.9, 0.5, n, dtype=np.float32),
        np.arange(n, dtype=np.int32) % 2,
        BoxMasks.from_crops((height, width), rects, list(masks)),
        ("cat", "dog"),
        (17, 18),
    )


def frame_called(name, time_s=None):
    return Frame(np.zeros((20, 30, 3), np.uint8), name, 0, time_s)


def test_results_of_many_frames_load_as_coco(tmp_path):
    rng = np.random.default_rng(0)
    masks = [rng.random((count, 20, 30)) < 0.5 for count in (3, 0, 2)]
    with CocoSink(tmp_path / "r.json", ("cat", "dog"), (17, 18)) as writer:
        for index, frame_masks in enumerate(masks):
            ids = 7 + np.arange(len(frame_masks), dtype=np.int64)
            writer.add(frame_called(f"f{index}.png", index / 25), replace(instances_of(frame_masks), ids=ids))
    coco = COCO(str(tmp_path / "r.json"))
    assert coco.getImgIds() == [1, 2, 3] and sorted(coco.getAnnIds()) == [1, 2, 3, 4, 5]
    assert [cat["name"] for cat in coco.loadCats(coco.getCatIds())] == ["cat", "dog"]
    image = coco.loadImgs(3)[0]
    assert (image["file_name"], image["height"], image["width"], image["time_s"]) == ("f2.png", 20, 30, 0.08)
    for annotation, mask in zip(coco.loadAnns(coco.getAnnIds(3)), masks[2], strict=True):
        np.testing.assert_array_equal(coco.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum() == coco_mask.area(annotation["segmentation"])
        assert annotation["category_id"] == 17 + annotation["track_id"] - 7
        assert 0 < annotation["score"] < 1 and annotation["iscrowd"] == 0
    assert names_in(tmp_path) == ["r.json"]


def test_no_frames_are_valid_results(tmp_path):
    with CocoSink(tmp_path / "r.json", ("cat",), (1,)):
        pass
    assert json.loads((tmp_path / "r.json").read_text()) == {
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [],
        "images": [],
    }


def test_results_cut_short_by_an_error_leave_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), CocoSink(tmp_path / "r.json", ("cat", "dog"), (17, 18)) as writer:
        writer.add(frame_called("a.png"), instances_of(np.ones((1, 4, 4))))
        raise ZeroDivisionError
    assert names_in(tmp_path) == []


def test_results_grow_on_disk_and_not_in_memory(tmp_path):
    with CocoSink(tmp_path / "r.json", ("cat", "dog"), (17, 18)) as writer:
        one = instances_of(np.random.default_rng(0).random((5, 20, 30)) < 0.5)
        for index in range(50):
            writer.add(frame_called(f"{index}.png"), one)
        (partial,) = tmp_path.iterdir()
        assert partial.stat().st_size > 50_000

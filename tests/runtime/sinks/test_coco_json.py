# SPDX-License-Identifier: Apache-2.0
"""The results of many frames as a COCO file: pycocotools loads it, and it is written frame by frame or not at all."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import Split
from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.sinks.coco_json import CocoSink
from centermask_runtime.sources.source import Frame
from tests.support.awkward_masks import CATEGORY_IDS, NAMES, awkward_masks
from tests.support.awkward_masks import frame_called as awkward_frame
from tests.support.awkward_masks import instances_of as awkward
from tests.support.object_masks import canvas_of
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
        "info": {"description": "Found by CenterMask", "version": "1.0"},
        "licenses": [],
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


def test_supervision_reads_the_same_masks(tmp_path):
    import cv2
    import supervision

    masks = awkward_masks()[:-1]  # it asks for pixels
    with CocoSink(tmp_path / "r.json", NAMES, CATEGORY_IDS) as writer:
        for index in range(2):
            frame = awkward_frame(f"{index}.png", index)
            cv2.imwrite(str(tmp_path / frame.name), frame.image)
            writer.add(frame, awkward(masks))
    read = supervision.DetectionDataset.from_coco(str(tmp_path), str(tmp_path / "r.json"), force_masks=True)
    assert read.classes == list(NAMES) and len(read) == 2
    for path, image, detections in read:
        np.testing.assert_array_equal(image, cv2.imread(path))
        np.testing.assert_array_equal(detections.mask, masks)
        assert detections.class_id.tolist() == awkward(masks).labels.tolist()


def test_our_own_loader_reads_the_same_masks(tmp_path):
    import cv2

    masks = awkward_masks()[:-1]
    (tmp_path / "images").mkdir()
    frame = awkward_frame("a.png")
    cv2.imwrite(str(tmp_path / "images" / frame.name), frame.image)
    with CocoSink(tmp_path / "r.json", NAMES, CATEGORY_IDS) as writer:
        writer.add(frame, awkward(masks))
    dataset = load_dataset(Split.of_files(tmp_path / "r.json", tmp_path / "images"))
    assert dataset.class_names == NAMES and dataset.category_ids == CATEGORY_IDS
    for one, mask in zip(dataset.objects(0), masks, strict=True):
        np.testing.assert_array_equal(canvas_of(one, mask.shape), mask)


def test_the_file_is_what_fiftyone_and_cvat_say_that_they_import(tmp_path):
    """The keys and types that are published: FiftyOne's "COCODetectionDataset" and CVAT's "COCO 1.0", with ids."""
    with CocoSink(tmp_path / "r.json", NAMES, CATEGORY_IDS) as writer:
        writer.add(awkward_frame("v_000000", 0, 0.0), awkward(awkward_masks(), ids=np.arange(9)))
    content = json.loads((tmp_path / "r.json").read_text())
    wanted = {
        "info": {}, "licenses": {}, "categories": {"id": int, "name": str},
        "images": {"id": int, "file_name": str, "height": int, "width": int},
        "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list, "segmentation": dict, "area": int,
                        "iscrowd": int, "score": float},
    }  # fmt: skip
    assert wanted.keys() == content.keys()
    for part, types in wanted.items():
        for entry in content[part] if types else ():
            assert all(type(entry[key]) is kind for key, kind in types.items()), entry
    ids = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        assert annotation["category_id"] in ids and annotation["image_id"] == content["images"][0]["id"]
        assert set(annotation["segmentation"]) == {"size", "counts"} and len(annotation["bbox"]) == 4

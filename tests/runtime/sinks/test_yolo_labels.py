# SPDX-License-Identifier: Apache-2.0
"""YOLO labels give the same masks again: to our own loader, and to pycocotools."""

from __future__ import annotations

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_dataset, find_split
from centermask_runtime.sinks.yolo_labels import YoloSink
from tests.support.awkward_masks import HW, NAMES, awkward_masks, frame_called, instances_of
from tests.support.object_masks import canvas_of
from tests.support.small_pictures import names_in


def written(tmp_path):
    found = {f"{seed}.jpg": instances_of(awkward_masks(seed)) for seed in range(3)} | {"none.jpg": instances_of([])}
    with YoloSink(tmp_path / "labels", NAMES) as sink:
        for name, instances in found.items():
            sink.add(frame_called(name), instances)
    return found


def test_our_own_loader_reads_the_same_masks(tmp_path):
    found = written(tmp_path)
    (tmp_path / "images").mkdir()
    for name in found:
        cv2.imwrite(str(tmp_path / "images" / name), frame_called(name).image)
    (tmp_path / "data.yaml").write_text(f"path: {tmp_path}\ntrain: images\nval: images\nnames: {list(NAMES)}\n")
    (tmp_path / "labels" / "classes.txt").rename(tmp_path / "classes.txt")
    dataset = load_dataset(find_split(find_dataset(tmp_path), "val"))
    for index, record in enumerate(dataset.images):
        instances = found[record.path.name]
        kept = np.flatnonzero(instances.masks.areas() > 0)
        objects = dataset.objects(index)
        assert [one.label for one in objects] == instances.labels[kept].tolist()
        for one, place in zip(objects, kept, strict=True):
            np.testing.assert_array_equal(canvas_of(one, HW), instances.masks.canvas(place))


def test_pycocotools_fills_the_lines_to_the_same_masks(tmp_path):
    instances = written(tmp_path)["0.jpg"]
    lines = (tmp_path / "labels" / "0.txt").read_text().splitlines()
    assert len(lines) == len(instances) - 1  # the one without a pixel has none
    for place, line in enumerate(lines):
        label, *numbers = line.split()
        assert int(label) == instances.labels[place]
        polygon = (np.array(numbers, float).reshape(-1, 2) * HW[::-1]).ravel().tolist()
        filled = coco_mask.decode(coco_mask.frPyObjects([polygon], *HW))[:, :, 0].astype(bool)
        np.testing.assert_array_equal(filled, instances.masks.canvas(place))


def test_a_frame_without_objects_has_an_empty_file_and_the_classes_are_named(tmp_path):
    written(tmp_path)
    assert names_in(tmp_path / "labels") == ["0.txt", "1.txt", "2.txt", "classes.txt", "none.txt"]
    assert (tmp_path / "labels" / "none.txt").read_text() == ""
    assert (tmp_path / "labels" / "classes.txt").read_text().splitlines() == list(NAMES)

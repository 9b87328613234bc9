# SPDX-License-Identifier: Apache-2.0
"""Ground truth and results become the Instances that they are, crowds and boxes without masks too."""

from __future__ import annotations

import json
import shutil

import numpy as np

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.evaluation.drawing import result_instances, truth_instances
from tests.support.shape_results import HW


def test_results_become_the_objects_they_were(folder, found):
    dataset = load_dataset(find_split(folder, "val"))
    truth = truth_instances(dataset, 0)
    mine = [{**one, "score": 1.0} for one in found if one["image_id"] == dataset.images[0].id]
    again = result_instances(mine, HW, dataset.class_names, dataset.category_ids)
    np.testing.assert_array_equal(again.masks.canvases(), truth.masks.canvases())
    np.testing.assert_array_equal(again.boxes, truth.boxes)
    np.testing.assert_array_equal(again.labels, truth.labels)


def test_results_without_masks_are_drawn_as_boxes(folder, found):
    dataset = load_dataset(find_split(folder, "val"))
    bare = [{key: value for key, value in found[0].items() if key != "segmentation"}]
    (one,) = result_instances(bare, HW, dataset.class_names, dataset.category_ids)
    x, y, w, h = found[0]["bbox"]
    assert one.masks.areas().tolist() == [0] and one.boxes[0].tolist() == [x, y, x + w, y + h]


def test_crowds_of_the_ground_truth_are_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    file = tmp_path / "data" / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["iscrowd"] = 1
    file.write_text(json.dumps(content))
    truth = truth_instances(load_dataset(find_split(tmp_path / "data", "val")), 0)
    names = [truth.class_names[label] for label in truth.labels]
    assert [name.endswith(" (crowd)") for name in names] == [True] + [False] * (len(names) - 1)

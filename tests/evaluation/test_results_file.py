# SPDX-License-Identifier: Apache-2.0
"""Files of results: ids by file name and class name, and one sentence for a file of something else."""

from __future__ import annotations

import json

import pytest

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.evaluation.results_file import read_results
from centermask_runtime.errors import DataError
from tests.support.shape_results import HW


def test_predictions_of_predict_are_found_by_file_name(folder, found, tmp_path):
    """predict numbers images in its own order and knows some that the data set does not."""
    dataset = load_dataset(find_split(folder, "val"))
    own = {1: 30, 2: 20, 3: 10}
    images = [{"id": own[n], "file_name": f"{n:06d}.png", "height": HW[0], "width": HW[1]} for n in (1, 2, 3)]
    images.append({"id": 99, "file_name": "other.png", "height": 5, "width": 5})
    annotations = [{**one, "image_id": own[one["image_id"]]} for one in found]
    annotations.append({**found[0], "image_id": 99})
    content = {"images": images, "annotations": annotations, "categories": []}
    (tmp_path / "predictions.json").write_text(json.dumps(content))
    assert read_results(tmp_path / "predictions.json", dataset) == found


def test_categories_of_predictions_are_found_by_name(folder, found, tmp_path):
    """A model that was trained on another numbering of the same classes."""
    dataset = load_dataset(find_split(folder, "val"))
    own = {number: 13 - number for number in dataset.category_ids}
    names = dict(zip(dataset.category_ids, dataset.class_names, strict=True))
    content = {
        "images": [{"id": record.id, "file_name": record.path.name} for record in dataset.images],
        "annotations": [{**one, "category_id": own[one["category_id"]]} for one in found],
        "categories": [{"id": own[number], "name": name} for number, name in names.items()],
    }
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(content))
    assert read_results(path, dataset) == found
    for wrong, sentence in (
        (
            [{"id": 1, "name": "cat"}, *content["categories"][1:]],
            "has the classes cat, .* has ellipse, rectangle, star",
        ),
        ([3], "has 'categories' without 'id' and 'name'"),
    ):
        path.write_text(json.dumps({**content, "categories": wrong}))
        with pytest.raises(DataError, match=sentence):
            read_results(path, dataset)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: {"boxes": r}, r"neither a list of COCO results nor predict's predictions.json"),
        (lambda r: [*r, 3], r"is no object with 'image_id', 'category_id' and 'score'"),
        (lambda r: [{**r[0], "image_id": 77}], r"result 0 is of image id 77, which .*instances_val.json does not have"),
        (lambda r: [r[0], {**r[0], "category_id": 9}], r"result 1 is of category id 9, which .* does not have"),
        (lambda r: [{k: v for k, v in r[0].items() if k != "score"}], r"result 0 has no 'score'"),
        (
            lambda r: [{**r[0], "bbox": [1, 2]}],
            r"result 0 has a 'bbox' that is not four finite numbers",
        ),
        (
            lambda r: [{**r[0], "bbox": [1, 2, "x", 4]}],
            r"result 0 has a 'bbox' that is not four finite numbers",
        ),
        (lambda r: [{**r[0], "segmentation": [[1, 2, 3]]}], r"result 0 has a polygon of 3 numbers"),
        (
            lambda r: [{**r[0], "segmentation": {"size": [80, 100], "counts": 7}}],
            r"has a mask without run lengths",
        ),
        (
            lambda r: [{**r[0], "segmentation": {"size": [80, 100], "counts": "11"}}],
            r"has run lengths for 2 of 8000",
        ),
        (
            lambda r: [{**r[0], "segmentation": {"size": [9, 9], "counts": "11"}}],
            r"mask of size \[9, 9\], but the image is \[80, 100\]",
        ),
        (
            lambda r: {"images": [{"id": 1, "file_name": "elsewhere.png"}], "annotations": r},
            r"None of the 1 images of .* is in",
        ),
    ],
)
def test_a_file_of_something_else_is_one_sentence(folder, found, tmp_path, change, sentence):
    (tmp_path / "r.json").write_text(json.dumps(change(found)))
    with pytest.raises(DataError, match=sentence):
        read_results(tmp_path / "r.json", load_dataset(find_split(folder, "val")))

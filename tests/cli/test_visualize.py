# SPDX-License-Identifier: Apache-2.0
"""`visualize` and `val --plots` as people use them: pictures where they belong, one sentence for a wrong file."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from centermask.cli import cli
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.synthetic import write_shapes
from centermask.evaluation.pictures import CAPTION_HEIGHT, result_instances, truth_instances
from centermask.evaluation.report import write_report
from centermask.evaluation.results_file import read_results
from centermask_runtime.errors import CenterMaskError, DataError, UsageError
from tests.support.places import NUCLEI

HW = (80, 100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shapes")
    write_shapes(path, 1, seed=6, val_count=3, size_hw=HW)
    return path


@pytest.fixture(scope="module")
def found(folder) -> list[dict]:
    """The ground truth as results; every other object scores 0.2."""
    content = json.loads((folder / "annotations" / "instances_val.json").read_text())
    return [
        {key: entry[key] for key in ("image_id", "category_id", "bbox", "segmentation")}
        | {"score": 0.9 if number % 2 else 0.2}
        for number, entry in enumerate(content["annotations"])
    ]


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def halves(picture: Path) -> tuple[np.ndarray, np.ndarray]:
    """The prediction and the ground truth, without their captions."""
    image = cv2.imread(str(picture))
    assert image.shape[0] == HW[0] + CAPTION_HEIGHT
    return image[CAPTION_HEIGHT:, : HW[1]], image[CAPTION_HEIGHT:, -HW[1] :]


@pytest.mark.parametrize("option", ["--data", "--dataset"])
def test_each_image_becomes_one_picture_of_both(folder, found, tmp_path, option):
    (tmp_path / "r.json").write_text(json.dumps(found))
    run("visualize", "--input", tmp_path / "r.json", "--output", tmp_path / "out", option, folder)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{number:06d}.png" for number in (1, 2, 3)]
    for name in names:
        source = cv2.imread(str(folder / "val" / name))
        left, right = halves(tmp_path / "out" / name)
        assert (right != source).any() and (left != right).any()


def test_without_labels_all_results_are_drawn_as_the_ground_truth_is(folder, found, tmp_path):
    """At --conf 0: the same masks, in another order only where they overlap."""
    (tmp_path / "r.json").write_text(json.dumps([{**one, "score": 1.0} for one in found]))
    where = "--input", tmp_path / "r.json", "--data", folder, "--output", tmp_path / "out"
    run("visualize", *where, "--no-labels", "--conf", 0)
    for number in (1, 2, 3):
        left, right = halves(tmp_path / "out" / f"{number:06d}.png")
        np.testing.assert_array_equal(left, right)


def test_a_score_below_the_threshold_is_not_drawn(folder, found, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(found))
    where = "--input", tmp_path / "r.json", "--data", folder, "--output", tmp_path / "out"
    run("visualize", *where, "--conf", 1)
    for number in (1, 2, 3):
        left, _ = halves(tmp_path / "out" / f"{number:06d}.png")
        np.testing.assert_array_equal(left, cv2.imread(str(folder / "val" / f"{number:06d}.png")))


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


def test_wrong_options_are_one_sentence(folder, found, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(found))

    def error(kind: type[CenterMaskError], *arguments: object) -> str:
        words = [str(one) for one in ("visualize", "--input", tmp_path / "r.json", *arguments)]
        with pytest.raises(kind) as caught:
            CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
        return str(caught.value)

    with pytest.raises(DataError, match="There is no results file"):
        read_results(tmp_path / "no.json", load_dataset(find_split(folder, "val")))
    assert "holds the images themselves" in error(UsageError, "--data", folder, "--output", folder / "val")
    both = "--data", folder, "--dataset", folder
    assert "give one of them" in error(UsageError, *both, "--output", tmp_path / "out")
    (tmp_path / "r.json").write_text("{")
    assert "is not JSON" in error(DataError, "--data", folder, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_report_has_curves_matrix_and_sheets(folder, found, tmp_path):
    """Perfect masks, half of them at 0.2: the best threshold keeps them all."""
    report = write_report(tmp_path, load_dataset(find_split(folder, "val")), found, 100)
    assert report.f1 == 1.0 and report.score_threshold <= 0.2
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "box_PR_curve.png", "box_F1_curve.png", "mask_PR_curve.png", "mask_F1_curve.png", "confusion_matrix.png",
        "confusion_matrix.csv", "val_batch0_labels.jpg", "val_batch0_pred.jpg",
    }  # fmt: skip
    for name in names - {"confusion_matrix.csv"}:
        assert cv2.imread(str(tmp_path / name)).std() > 10
    with (tmp_path / "confusion_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == ["ellipse", "rectangle", "star", "background"]
    assert sum(int(rows[n + 1][n + 1]) for n in range(3)) == len(found)


def test_val_draws_them_from_the_command_line(tmp_path):
    nuclei = NUCLEI
    content = json.loads((nuclei / "annotations" / "instances_val.json").read_text())
    first = min(content["images"], key=lambda image: image["height"] * image["width"])
    content["images"] = [first]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] == first["id"]]
    (tmp_path / "one.json").write_text(json.dumps(content))
    arguments = "--annotations", tmp_path / "one.json", "--images", nuclei / "val", "--threads", 1
    said = run("val", "--model", "nuclei_dla_46c", *arguments, "--plots", tmp_path / "plots")
    assert "Best mask F1" in said and (tmp_path / "plots" / "confusion_matrix.png").is_file()

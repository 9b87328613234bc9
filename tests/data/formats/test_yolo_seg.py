# SPDX-License-Identifier: Apache-2.0
"""The YOLO-seg layout: data files and label lines as people write them; a bad one is named by file and line."""

from __future__ import annotations

import pytest

from centermask.data.formats.layouts import find_dataset, recognise
from centermask_runtime.errors import DataError
from tests.support.written_layouts import opened, yolo


def test_a_label_line_is_one_object_in_pixels_of_the_image(tmp_path):
    lines = "1 0.25 0.2 0.75 0.2 0.75 0.8 0.25 0.8\n\n0 0 0 0.1 0 0.1 0.1\n"
    dataset = opened(yolo(tmp_path, lines), "val")
    first, second = dataset.objects(0)
    assert first.rect == (10, 6, 30, 24) and first.crop.all() and not first.crowd
    assert [dataset.class_names[one.label] for one in (first, second)] == ["dog", "cat"]
    assert len(dataset) == 2 and dataset.objects(1) == []


@pytest.mark.parametrize(
    "data",
    [
        {"names": {0: "cat", 1: "dog"}},
        {"path": "."},
        {"path": "../datasets/pets"},  # somebody else's machine: the split lies beside data.yaml
        {"val": "../images/val"},  # Roboflow
        {"val": None, "valid": "images/val"},
        {"val": ["images/val"]},
        {"val": "val.txt"},
        {"train": "images/gone"},
    ],
)
def test_data_files_are_read_as_people_write_them(tmp_path, data):
    folder = yolo(tmp_path, **data)
    (folder / "val.txt").write_text("./images/val/b.png\n./images/val/a.png\n")
    for place in (folder, folder / "data.yaml"):
        dataset = opened(find_dataset(place), "val")
        assert dataset.class_names == ("cat", "dog") and [len(dataset.objects(i)) for i in range(2)] == [1, 0]
    assert [split.name for split in recognise(folder)] == ["val"]


def test_another_yaml_file_is_no_data_set(tmp_path):
    (tmp_path / "config.yaml").write_text("names: {a: 1}\nlr: 0.1")
    assert recognise(tmp_path) == []
    yolo(tmp_path)
    (tmp_path / "data.yaml").rename(tmp_path / "pets.yaml")
    (tmp_path / "config.yaml").unlink()
    assert [split.layout.name for split in recognise(tmp_path)] == ["YOLO-seg"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("0 .5 .5 .2 .2", "line 1 is a box and no polygon; CenterMask learns masks"),
        ("0 .1 .1 .5 .1 .5 .5\n0 .1 .1 .5", "line 2 has 3 numbers after the class"),
        ("0 .1 .1 .5 .1 .5 .5 .7", "line 1 has 7 numbers"),
        ("2 .1 .1 .5 .1 .5 .5", "line 1 is of class 2, but data.yaml names the classes 0 to 1"),
        ("0.5 .1 .1 .5 .1 .5 .5", "is of class 0.5"),
        ("0 10 10 20 10 20 20", "coordinates outside 0..1"),
        ("0 nan .1 .5 .1 .5 .5", "coordinates outside 0..1"),
        ("cat .1 .1 .5 .1 .5 .5", "a word that is no number"),
    ],
)
def test_a_bad_label_line_is_refused_with_file_and_line(tmp_path, lines, says):
    with pytest.raises(DataError) as caught:
        opened(yolo(tmp_path, lines), "val")
    assert says in str(caught.value) and str(tmp_path / "labels" / "val" / "a.txt") in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("names: [", "data.yaml is not YAML"),
        ("val: images/val", "has no 'names'"),
        ("[1, 2]", "has no 'names'"),
        ("names: {1: a, 2: b}\nval: images/val", "must number its classes from 0"),
        ("names: [a]\nval: [images/val, images/more]", "list the images of several folders in one .txt file"),
        ("names: [a]\nval: labels", "names no images"),
        ("names: [a]\nval: images/gone", "No split 'val'"),
    ],
)
def test_a_bad_data_file_is_refused(tmp_path, change, says):
    (yolo(tmp_path) / "data.yaml").write_text(change)
    with pytest.raises(DataError, match=says):
        opened(tmp_path, "val")


def test_a_listed_image_that_is_gone_or_no_image_is_named(tmp_path):
    yolo(tmp_path, val="val.txt")
    (tmp_path / "val.txt").write_text("images/val/a.png\nimages/val/c.png\n")
    with pytest.raises(DataError, match=r"c\.png cannot be read"):
        opened(tmp_path, "val")
    (tmp_path / "images" / "val" / "c.png").write_text("no image")
    with pytest.raises(DataError, match=r"c\.png cannot be read"):
        opened(tmp_path, "val")

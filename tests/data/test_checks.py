# SPDX-License-Identifier: Apache-2.0
"""The rules of a sound annotation: one sentence for each way to break it, the same for the loader and the doctor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from centermask.data.checks import Fault, check_mask
from centermask.data.doctor.examine import examine
from centermask.data.doctor.findings import KINDS, Severity
from centermask.data.formats.layouts import Split
from centermask_runtime.errors import DataError
from centermask_runtime.reference.rle import encode_counts
from tests.support.small_coco import HEIGHT, SQUARE, WIDTH, content, opened, write

SIZE = [HEIGHT, WIDTH]
OF_2 = "annotation id 2 of image id 11 (a.png)"


def broken(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    entries = copy.deepcopy(content())
    change(entries)
    return entries


def second(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entries: entries["annotations"][1].update(values)


def mask(value: Any) -> Callable[[dict[str, Any]], None]:
    return second(segmentation=value)


def counts(value: Any) -> Callable[[dict[str, Any]], None]:
    return mask({"size": SIZE, "counts": value})


BROKEN: list[tuple[Callable[[dict[str, Any]], Any], str, str]] = [
    (lambda e: e["categories"].append({"name": "x"}), "bad-entry", "there is an entry of the category list without a"),
    (lambda e: e["images"].append("c.png"), "bad-entry", "there is an entry of the image list without a whole number"),
    (lambda e: e["annotations"].append([1]), "bad-entry", "there is an entry of the annotation list without a whole"),
    (lambda e: e["categories"].append({"id": 90}), "duplicate-category-id", "category id 90 is there twice"),
    (lambda e: e["images"].append({"id": 11}), "duplicate-image-id", "image id 11 is there twice"),
    (second(id=1), "duplicate-annotation-id", "annotation id 1 is there twice"),
    (lambda e: e["images"][1].pop("height"), "bad-entry", "image id 3 lacks 'file_name', 'height' or 'width'"),
    (lambda e: e["images"][1].update(width=0), "bad-entry", "image id 3 has a size of 0 x 30 pixels"),
    (lambda e: e["images"][1].update(file_name="c.png"), "missing-image", "image id 3 is the file c.png, which is not"),
    (lambda e: e["images"][1].update(file_name="d/b.png"), "missing-image", "image id 3 is the file d/b.png, which"),
    (second(image_id=12), "unknown-image-id", "annotation id 2 is of image id 12, which is not in 'images'"),
    (second(image_id=[11]), "unknown-image-id", "annotation id 2 is of image id [11]"),
    (second(category_id=1), "unknown-category-id", "annotation id 2 is of category id 1, which is not in 'categories'"),
    (second(category_id={}), "unknown-category-id", "annotation id 2 is of category id {}"),
    (second(iscrowd=None), "bad-crowd", f"{OF_2} has an 'iscrowd' that is neither 0 nor 1"),
    (second(iscrowd="0"), "bad-crowd", f"{OF_2} has an 'iscrowd'"),
    (second(bbox=[None] * 4), "bad-box", f"{OF_2} has a 'bbox' that is not four finite numbers"),
    (second(bbox=[1, 2, "3", 4]), "bad-box", f"{OF_2} has a 'bbox'"),
    (second(bbox=[1, 2, [3], 4]), "bad-box", f"{OF_2} has a 'bbox'"),
    (second(bbox=[1, 2, 3]), "bad-box", f"{OF_2} has a 'bbox'"),
    (second(bbox=7), "bad-box", f"{OF_2} has a 'bbox'"),
    (second(bbox=[41, 3, 5, 5]), "outside-image", f"{OF_2} lies outside of its image: x 41 to 46, y 3 to 8"),
    (second(bbox=[3, -6, 5, 5]), "outside-image", f"{OF_2} lies outside of its image"),
    (mask([[50, 1, 60, 1, 60, 9]]), "outside-image", f"{OF_2} lies outside of its image"),
    (
        second(bbox=[3, 3, 5, 5], segmentation=[[50, 1, 60, 1, 60, 9]]),
        "outside-image",
        f"{OF_2} lies outside of its image: x 50 to 60",
    ),
    (mask([[5, 5, 1e9, 5, 5, 1e9]]), "outside-image", f"{OF_2} has a polygon far from its image"),
    (mask([]), "empty-segmentation", f"{OF_2} has no 'segmentation'; CenterMask learns masks"),
    (mask([[]]), "empty-segmentation", f"{OF_2} has no 'segmentation'"),
    (lambda e: e["annotations"][1].pop("segmentation"), "empty-segmentation", f"{OF_2} has no 'segmentation'"),
    (mask([SQUARE, [1, 1, 5, 5]]), "short-polygon", f"{OF_2} has a polygon of 4 numbers; it needs x and y"),
    (mask([[1, 1, 5, 5, 3, 8, 2]]), "short-polygon", f"{OF_2} has a polygon of 7 numbers"),
    (mask([SQUARE, 3]), "bad-polygon", f"{OF_2} has a polygon that is no flat list of finite numbers"),
    (mask([SQUARE, [1, 1, 5, "1", 5, 5]]), "bad-polygon", f"{OF_2} has a polygon that is no flat list"),
    (mask([[1, 1, 5, None, 5, 5]]), "bad-polygon", f"{OF_2} has a polygon that is no flat list"),
    (mask([[[1, 1], [5, 1], [5], 1, 5, 5]]), "bad-polygon", f"{OF_2} has a polygon that is no flat list"),
    (mask([[1, 1, 5, float("nan"), 5, 5]]), "bad-polygon", f"{OF_2} has a polygon that is no flat list"),
    (mask([[1, 1, 5, float("inf"), 5, 5]]), "bad-polygon", f"{OF_2} has a polygon that is no flat list"),
    (mask({"size": SIZE[::-1], "counts": "0"}), "rle-size", f"{OF_2} has a mask of size [40, 30], but the image is"),
    (mask({"size": SIZE}), "damaged-rle", f"{OF_2} has a mask without run lengths in 'counts'"),
    (counts(["1200"]), "damaged-rle", f"{OF_2} has a mask without run lengths in 'counts'"),
    (counts(1200), "damaged-rle", f"{OF_2} has a mask without run lengths in 'counts'"),
    (counts([7, 8]), "damaged-rle", f"{OF_2} has run lengths for 15 of 1200 pixels"),
    (counts([-5, 1205]), "damaged-rle", f"{OF_2} has run lengths below 0"),
    (counts("abc0012"), "damaged-rle", f"{OF_2} has run lengths"),
    # pycocotools takes -5 for a run of four billion pixels
    (counts(encode_counts(np.array([5, -5, HEIGHT * WIDTH]))), "damaged-rle", f"{OF_2} has run lengths below 0"),
    (counts("P"), "damaged-rle", f"{OF_2} has a mask without run lengths"),
]


@pytest.mark.parametrize(("change", "kind", "says"), BROKEN)
def test_what_the_loader_refuses_the_doctor_names_in_the_same_words(tmp_path, change, kind, says):
    with pytest.raises(DataError) as caught:
        opened(tmp_path, broken(change))
    sentence = str(caught.value).removeprefix(f"{tmp_path / 'all.json'}: ")
    assert sentence.startswith(says)
    report = examine([Split.of_files(tmp_path / "all.json", tmp_path / "images")])
    errors = {one.kind: one for one in report.findings if KINDS[one.kind].severity is Severity.ERROR}
    assert list(errors) == [kind] and errors[kind].examples == [f"all: {sentence}"]


def test_the_doctor_goes_on_where_the_loader_stops(tmp_path):
    entries = broken(mask([SQUARE, [1, 1], [1, 2, 3], [1, 2, None, 4, 5, 6]]))
    entries["annotations"][0].update(iscrowd=2)
    report = examine([Split.of_files(write(tmp_path, entries), tmp_path / "images")])
    counted = {one.kind: one.count for one in report.findings if KINDS[one.kind].severity is Severity.ERROR}
    assert counted == {"short-polygon": 2, "bad-polygon": 1, "bad-crowd": 1}


def test_a_sound_file_has_no_fault(tmp_path):
    opened(tmp_path, content())
    report = examine([Split.of_files(tmp_path / "all.json", tmp_path / "images")])
    assert report.findings.count(Severity.ERROR) == 0


def test_an_entry_that_was_converted_is_named_by_the_line_it_came_from(tmp_path):
    entries = broken(mask([]))
    entries["annotations"][1]["source"] = str(Path("labels") / "a.txt line 3")
    with pytest.raises(DataError, match=r"all\.json: labels/a\.txt line 3 has no 'segmentation'"):
        opened(tmp_path, entries)


def test_a_mask_is_handed_on_as_it_was_read():
    faults: list[Fault] = []
    runs = {"size": SIZE, "counts": [5, 10, HEIGHT * WIDTH - 15]}
    assert check_mask(runs, (HEIGHT, WIDTH), "x", faults.append) == runs
    polygons = check_mask([SQUARE, SQUARE[:6]], (HEIGHT, WIDTH), "x", faults.append)
    assert isinstance(polygons, tuple) and [one.tolist() for one in polygons] == [SQUARE, SQUARE[:6]]
    assert faults == []

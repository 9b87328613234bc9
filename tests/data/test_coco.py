# SPDX-License-Identifier: Apache-2.0
"""Reading COCO JSON: the same masks as pycocotools, and one clear sentence for each way to break a data set."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from centermask.data.coco import CocoDataset, find_split, load_coco
from centermask_runtime.errors import DataError

HEIGHT, WIDTH = 30, 40
SQUARE = [5.0, 5.0, 15.0, 5.0, 15.0, 15.0, 5.0, 15.0]


def runs_of(mask: np.ndarray) -> list[int]:
    """Uncompressed COCO run lengths, by hand: down the columns, zeros first."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return counts


def blob() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[10:20, 12:17] = True
    mask[25:30, 35:40] = True
    return mask


def content() -> dict[str, Any]:
    """Two images, the second without objects; categories 0, 7 and 90, listed out of order."""
    compressed = coco_mask.encode(np.asfortranarray(blob().view(np.uint8)))["counts"].decode()
    size = [HEIGHT, WIDTH]
    return {
        "images": [
            {"id": 11, "file_name": "a.png", "height": HEIGHT, "width": WIDTH},
            {"id": 3, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 90, "name": "kite"}, {"id": 0, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 11, "category_id": 90, "segmentation": [SQUARE, [20, 2, 35.5, 4, 28, 21.25]]},
            {"id": 2, "image_id": 11, "category_id": 0, "segmentation": {"size": size, "counts": compressed}},
            {"id": 5, "image_id": 11, "category_id": 7, "iscrowd": 1, "bbox": [0, 0, 40, 30],
             "segmentation": {"size": size, "counts": runs_of(blob())}},
            {"id": 8, "image_id": 11, "category_id": 7, "segmentation": {"size": size, "counts": [HEIGHT * WIDTH]}},
        ],
    }  # fmt: skip


def write(folder: Path, entries: Any) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / "images" / name), np.full((HEIGHT, WIDTH, 3), 50, np.uint8))
    path = folder / "all.json"
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return path


def opened(folder: Path, entries: Any) -> CocoDataset:
    return load_coco(write(folder, entries), folder / "images")


def canvas(one: Any, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    full = np.zeros(size_hw, np.bool_)
    x0, y0, x1, y1 = one.rect
    full[y0:y1, x0:x1] = one.crop
    return full


def test_labels_are_places_in_the_sorted_category_ids(tmp_path):
    dataset = opened(tmp_path, content())
    assert dataset.category_ids == (0, 7, 90) and dataset.class_names == ("cat", "dog", "kite")
    assert [one.label for one in dataset.objects(0)] == [2, 0, 1]
    assert [record.id for record in dataset.images] == [11, 3] and len(dataset) == 2


def test_all_forms_of_a_mask_are_read_and_empty_ones_dropped(tmp_path):
    polygons, compressed, uncompressed = opened(tmp_path, content()).objects(0)
    np.testing.assert_array_equal(canvas(compressed), blob())
    np.testing.assert_array_equal(canvas(uncompressed), blob())
    assert uncompressed.crowd and not compressed.crowd
    assert compressed.rect == (12, 10, 40, 30)
    assert canvas(polygons)[5:15, 5:15].all() and canvas(polygons)[8, 28] and not canvas(polygons)[25:].any()


def test_an_image_without_annotations_has_no_objects(tmp_path):
    assert opened(tmp_path, content()).objects(1) == []


@given(mask=st.builds(lambda seed: np.random.default_rng(seed).random((HEIGHT, WIDTH)) < 0.02, st.integers(0, 10**6)))
def test_any_mask_comes_back_in_its_tight_rectangle(tmp_path_factory, mask):
    entries = content()
    segmentation = {"size": [HEIGHT, WIDTH], "counts": runs_of(mask)}
    entries["annotations"] = [{"id": 1, "image_id": 3, "category_id": 7, "segmentation": segmentation}]
    objects = opened(tmp_path_factory.getbasetemp(), entries).objects(1)
    assert len(objects) == mask.any()
    for one in objects:
        np.testing.assert_array_equal(canvas(one), mask)
        assert one.crop[0].any() and one.crop[-1].any() and one.crop[:, 0].any() and one.crop[:, -1].any()


@pytest.mark.parametrize("folder", ["coco", "nuclei"])
def test_real_objects_are_those_of_pycocotools(shared_data, folder):
    annotations, images = find_split(shared_data / folder, "val")
    dataset = load_coco(annotations, images)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
    for index in range(0, len(dataset), 2 if folder == "coco" else 6):
        record = dataset.images[index]
        entries = truth.loadAnns(truth.getAnnIds(record.id))
        objects = dataset.objects(index)
        assert len(objects) == len(entries)
        assert dataset.image(index).shape == (record.height, record.width, 3)
        for one, entry in zip(objects, entries, strict=True):
            np.testing.assert_array_equal(canvas(one, (record.height, record.width)), truth.annToMask(entry))
            assert dataset.category_ids[one.label] == entry["category_id"] and one.crowd == bool(entry["iscrowd"])


def broken(change) -> dict[str, Any]:
    entries = copy.deepcopy(content())
    change(entries)
    return entries


def mask_of(entries: dict[str, Any], value: Any) -> None:
    entries["annotations"][1]["segmentation"] = value


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e.pop("images"), "no list 'images'"),
        (lambda e: e.pop("annotations"), "no list 'annotations'"),
        (lambda e: e.update(categories={}), "no list 'categories'"),
        (lambda e: e["annotations"][1].update(image_id=12), "annotation id 2 is of image id 12"),
        (lambda e: e["annotations"][1].update(category_id=1), "annotation id 2 is of category id 1"),
        (lambda e: e["annotations"][1].update(id=1), "annotation id 1 is there twice"),
        (lambda e: e["images"][1].update(id=11), "image id 11 is there twice"),
        (lambda e: e["categories"][1].update(id=90), "category id 90 is there twice"),
        (lambda e: e["categories"][1].pop("id"), "category without a whole number as 'id'"),
        (lambda e: e["images"].append("c.png"), "image without a whole number as 'id'"),
        (lambda e: e["images"][1].update(file_name="c.png"), "image id 3 is the file c.png"),
        (lambda e: e["images"][1].update(file_name="deeper/b.png"), "image id 3 is the file deeper/b.png"),
        (lambda e: e["images"][1].pop("height"), "image id 3 lacks"),
        (lambda e: e["images"][1].update(width=0), "image id 3 has a size of 0 x 30"),
        (lambda e: mask_of(e, [SQUARE, [1, 1, 5, 5]]), "annotation id 2 of image id 11 has a polygon of 4 numbers"),
        (lambda e: mask_of(e, [[1, 1, 5, 5, 3, 8, 2]]), "annotation id 2 of image id 11 has a polygon of 7 numbers"),
        (lambda e: mask_of(e, []), "annotation id 2 of image id 11 has no 'segmentation'"),
        (lambda e: e["annotations"][1].pop("segmentation"), "annotation id 2 of image id 11 has no 'segmentation'"),
        (lambda e: mask_of(e, {"size": [WIDTH, HEIGHT], "counts": "0"}), "has a mask of size"),
        (
            lambda e: mask_of(e, {"size": [HEIGHT, WIDTH]}),
            "annotation id 2 of image id 11 has a mask without run lengths",
        ),
        (lambda e: mask_of(e, {"size": [HEIGHT, WIDTH], "counts": [7, 8]}), "run lengths for 15 of 1200 pixels"),
        (lambda e: e["annotations"][1].update(bbox=[41, 3, 5, 5]), "annotation id 2 lies outside of image id 11"),
        (lambda e: e["annotations"][1].update(bbox=[3, -6, 5, 5]), "annotation id 2 lies outside of image id 11"),
        (lambda e: e["annotations"][1].update(image_id=[11]), "annotation id 2 is of image id [11]"),
        (lambda e: e["annotations"][1].update(category_id={}), "annotation id 2 is of category id {}"),
        (lambda e: e["annotations"][1].update(iscrowd=None), "annotation id 2 has an 'iscrowd'"),
        (lambda e: e["annotations"][1].update(iscrowd="0"), "annotation id 2 has an 'iscrowd'"),
        (lambda e: e["annotations"][1].update(bbox=[None] * 4), "annotation id 2 has a 'bbox'"),
        (lambda e: e["annotations"][1].update(bbox=[1, 2, "3", 4]), "annotation id 2 has a 'bbox'"),
        (lambda e: e["annotations"][1].update(bbox=[1, 2, [3], 4]), "annotation id 2 has a 'bbox'"),
        (lambda e: mask_of(e, {"size": [HEIGHT, WIDTH], "counts": ["1200"]}), "annotation id 2 of image id 11 has run"),
        (
            lambda e: mask_of(e, {"size": [HEIGHT, WIDTH], "counts": [-5, 1205]}),
            "annotation id 2 of image id 11 has run",
        ),
        (lambda e: mask_of(e, [SQUARE, [1, 1, 5, "1", 5, 5]]), "annotation id 2 of image id 11 has a polygon"),
        (lambda e: mask_of(e, [[1, 1, 5, None, 5, 5]]), "annotation id 2 of image id 11 has a polygon"),
        (lambda e: mask_of(e, [[[1, 1], [5, 1], [5], 1, 5, 5]]), "annotation id 2 of image id 11 has a polygon"),
        (lambda e: mask_of(e, [[1, 1, 5, float("nan"), 5, 5]]), "annotation id 2 of image id 11 has a polygon"),
        (lambda e: mask_of(e, [[1, 1, 5, float("inf"), 5, 5]]), "annotation id 2 of image id 11 has a polygon"),
        (lambda e: mask_of(e, [[50, 1, 60, 1, 60, 9]]), "annotation id 2 lies outside of image id 11"),
    ],
)
def test_a_broken_annotation_file_is_refused_with_file_and_id(tmp_path, change, says):
    with pytest.raises(DataError) as caught:
        opened(tmp_path, broken(change))
    assert says in str(caught.value) and str(tmp_path / "all.json") in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "\x00\x01", "annotations: []"])
def test_what_is_not_json_is_refused(tmp_path, text):
    with pytest.raises(DataError, match=r"all\.json is not JSON"):
        opened(tmp_path, text)


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_json_that_is_not_coco_is_refused(tmp_path, text):
    with pytest.raises(DataError, match="no list 'images'"):
        opened(tmp_path, text)


def test_a_missing_annotation_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no annotation file .*nothing\.json"):
        load_coco(tmp_path / "nothing.json", tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        load_coco(tmp_path, tmp_path)


def test_damaged_run_lengths_name_the_annotation(tmp_path):
    entries = broken(lambda e: mask_of(e, {"size": [HEIGHT, WIDTH], "counts": "abc0012"}))
    with pytest.raises(DataError, match="annotation id 2 has damaged run lengths"):
        opened(tmp_path, entries).objects(0)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_an_image_that_is_cut_short_is_refused(tmp_path, suffix):
    entries = content()
    entries["images"][0]["file_name"] = f"cut{suffix}"
    write(tmp_path, entries)
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    path = tmp_path / "images" / f"cut{suffix}"
    for length in (0, 10, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:length])
        with pytest.raises(DataError, match=f"cut{suffix} is not an image that OpenCV can read: it may be damaged"):
            load_coco(tmp_path / "all.json", tmp_path / "images").image(0)
    dataset = load_coco(tmp_path / "all.json", tmp_path / "images")
    path.unlink()
    with pytest.raises(DataError, match=f"cut{suffix} cannot be read: No such file"):
        dataset.image(0)


def test_an_image_of_another_size_than_annotated_is_refused(tmp_path):
    dataset = opened(tmp_path, content())
    cv2.imwrite(str(dataset.images[0].path), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png is 30 x 40 pixels, but .* says 40 x 30 for image id 11"):
        dataset.image(0)


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 4)])
def test_grey_and_transparent_images_come_as_three_channels(tmp_path, shape):
    dataset = opened(tmp_path, content())
    cv2.imwrite(str(dataset.images[0].path), np.full(shape, 77, np.uint8))
    image = dataset.image(0)
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8 and (image == 77).all()


def test_an_exif_turn_is_ignored_because_masks_do_not_turn(tmp_path):
    dataset = opened(tmp_path, content())
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, : WIDTH // 2] = 200
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    tiff = (
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # one entry: orientation 6, a quarter turn
    )
    exif = b"Exif\0\0" + tiff
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (WIDTH, HEIGHT)
    dataset.images[0].path.write_bytes(turned)
    assert np.abs(dataset.image(0).astype(int) - picture).max() < 12


@pytest.mark.parametrize(
    ("annotations", "images", "split"),
    [
        ("annotations/instances_val2017.json", "val2017", "val"),
        ("annotations/instances_train.json", "train", "train"),
        ("valid/_annotations.coco.json", "valid", "val"),
        ("test/_annotations.coco.json", "test", "test"),
    ],
)
def test_known_layouts_are_recognised(tmp_path, annotations, images, split):
    for folder in ("annotations", images):
        (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / annotations).write_text("{}")
    assert find_split(tmp_path, split) == (tmp_path / annotations, tmp_path / images)


def test_an_unknown_layout_is_refused_with_all_that_was_looked_for(tmp_path):
    with pytest.raises(DataError) as caught:
        find_split(tmp_path)
    for place in (
        "instances_val2017.json with val2017/",
        "instances_val.json with val/",
        "valid/_annotations.coco.json",
    ):
        assert place in str(caught.value)

# SPDX-License-Identifier: Apache-2.0
"""A data set: the same masks as pycocotools, images as they are stored, and a sentence for one that is not usable."""

from __future__ import annotations

import contextlib
import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from centermask.data.dataset import ObjectMask, load_dataset
from centermask.data.formats.layouts import Split, find_split
from centermask_runtime.errors import DataError
from tests.support.object_masks import canvas_of
from tests.support.small_coco import HEIGHT, WIDTH, blob, content, opened, runs_of, write


def canvas(one: ObjectMask) -> np.ndarray:
    return canvas_of(one, (HEIGHT, WIDTH))


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


def test_labels_are_known_without_decoding_and_crowds_are_none(tmp_path):
    """The last object has no pixel, which its label does not know."""
    assert opened(tmp_path, content()).labels(0) == (2, 0, 1) and opened(tmp_path, content()).labels(1) == ()


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
    dataset = load_dataset(find_split(shared_data / folder, "val"))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(dataset.annotation_file)
    for index in range(0, len(dataset), 2 if folder == "coco" else 6):
        record = dataset.images[index]
        entries = truth.loadAnns(truth.getAnnIds(record.id))
        objects = dataset.objects(index)
        assert len(objects) == len(entries)
        assert dataset.image(index).shape == (record.height, record.width, 3)
        for one, entry in zip(objects, entries, strict=True):
            np.testing.assert_array_equal(canvas_of(one, (record.height, record.width)), truth.annToMask(entry))
            assert dataset.category_ids[one.label] == entry["category_id"] and one.crowd == bool(entry["iscrowd"])


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
        with pytest.raises(DataError, match=f"cut{suffix} is not an image that OpenCV or Pillow can read"):
            load_dataset(Split.of_files(tmp_path / "all.json", tmp_path / "images")).image(0)
    dataset = load_dataset(Split.of_files(tmp_path / "all.json", tmp_path / "images"))
    path.unlink()
    with pytest.raises(DataError, match=f"cut{suffix} cannot be read: No such file"):
        dataset.image(0)


def test_an_image_of_another_size_than_annotated_is_refused(tmp_path):
    dataset = opened(tmp_path, content())
    cv2.imwrite(str(dataset.images[0].path), np.zeros((WIDTH, HEIGHT, 3), np.uint8))
    with pytest.raises(DataError, match=r"image id 11 .*a\.png\) is 30 x 40 pixels, but was annotated as 40 x 30"):
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

# SPDX-License-Identifier: Apache-2.0
"""The VOC and SBD layouts: maps of object numbers become masks without the void, and damaged files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from centermask.data.formats.layouts import recognise
from centermask.data.formats.voc import CLASS_NAMES
from centermask_runtime.errors import DataError
from tests.support.written_layouts import object_maps, opened, write_voc


def write_sbd(root: Path, names: list[str]) -> Path:
    for folder in ("img", "inst", "cls"):
        (root / folder).mkdir(parents=True)
    for index, name in enumerate(names):
        image, objects, classes = object_maps(index)
        objects, classes = np.where(objects == 255, 0, objects), np.where(classes == 255, 0, classes)
        categories = np.array([[classes[objects == number].max()] for number in range(1, objects.max() + 1)], np.uint8)
        Image.fromarray(image[..., ::-1]).save(root / "img" / f"{name}.jpg")
        savemat(root / "inst" / f"{name}.mat", {"GTinst": {"Segmentation": objects, "Categories": categories}})
        savemat(root / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": classes}})
    (root / "val.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.mark.parametrize(
    ("write", "place", "layout"),
    [
        (write_voc, "VOCdevkit/VOC2012", "VOC"),
        (write_voc, ".", "VOC"),
        (write_sbd, "benchmark_RELEASE/dataset", "SBD"),
        (write_sbd, ".", "SBD"),
    ],
)
def test_maps_of_object_numbers_become_masks_without_the_void(tmp_path, write, place, layout):
    write(tmp_path / place, ["2007_000032", "2007_000039"])
    assert [(one.layout.name, one.name) for one in recognise(tmp_path)] == [(layout, "val")]
    dataset = opened(tmp_path, "val")
    assert dataset.class_names == CLASS_NAMES and dataset.category_ids == tuple(range(1, 21))
    for index in range(2):
        image, objects, classes = object_maps(index)
        assert dataset.image(index).shape == image.shape
        numbers = [number for number in np.unique(objects) if number not in (0, 255)]
        assert len(numbers) > 10
        for one, number in zip(dataset.objects(index), numbers, strict=True):
            full = np.zeros(objects.shape, np.bool_)
            full[one.rect[1] : one.rect[3], one.rect[0] : one.rect[2]] = one.crop
            np.testing.assert_array_equal(full, objects == number)
            assert dataset.category_ids[one.label] == classes[objects == number].max()


def test_damaged_voc_and_sbd_files_are_named(tmp_path):
    voc, sbd = write_voc(tmp_path / "voc", ["x"]), write_sbd(tmp_path / "sbd", ["x"])

    def refused(folder: Path, says: str) -> None:
        with pytest.raises(DataError, match=says):
            opened(folder, "val")

    (voc / "SegmentationClass" / "x.png").write_bytes((voc / "JPEGImages" / "x.jpg").read_bytes())
    refused(voc, r"SegmentationClass/x\.png is no palette image but RGB")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(voc / "SegmentationClass" / "x.png")
    refused(voc, "of x in .* differ in size")
    objects = np.asarray(Image.open(voc / "SegmentationObject" / "x.png"))
    Image.fromarray(np.zeros_like(objects)).save(voc / "SegmentationClass" / "x.png")
    refused(voc, "object 1 of x has the class 0")
    (voc / "SegmentationClass" / "x.png").write_bytes(b"\x89PNG")
    refused(voc, "cannot be read as an image")
    (voc / "SegmentationObject" / "x.png").unlink()
    refused(voc, r"There is no .*SegmentationObject/x\.png")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("x\nx\n")
    refused(voc, "lists x twice")
    savemat(sbd / "inst" / "x.mat", {"GTcls": 1})
    refused(sbd, r"inst/x\.mat is no SBD file with GTinst")
    (sbd / "inst" / "x.mat").write_bytes(b"no")
    refused(sbd, r"inst/x\.mat is no SBD file")
    (sbd / "inst" / "x.mat").unlink()
    refused(sbd, r"lists x, but there is no .*inst/x\.mat")

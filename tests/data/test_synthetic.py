# SPDX-License-Identifier: Apache-2.0
"""Drawn shapes: a data set like any other, the same from the same seed, with masks that are exactly what is seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.synthetic import CLASS_NAMES, MIN_AREA, draw_scene, write_shapes
from centermask_runtime.errors import DataError


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def test_the_same_seed_writes_the_same_files(tmp_path):
    for name, seed in (("one", 4), ("two", 4), ("other", 5)):
        write_shapes(tmp_path / name, 3, seed, size_hw=(48, 64))
    assert digest(tmp_path / "one") == digest(tmp_path / "two") != digest(tmp_path / "other")


def test_the_files_are_a_data_set_of_three_classes(tmp_path):
    write_shapes(tmp_path, 12, seed=0, val_count=5, size_hw=(96, 128))
    train, val = (load_dataset(find_split(tmp_path, split)) for split in ("train", "val"))
    assert (len(train), len(val)) == (12, 5) and train.class_names == CLASS_NAMES
    assert {one.label for index in range(12) for one in train.objects(index)} == {0, 1, 2}
    assert train.image(0).shape == (96, 128, 3)
    assert not np.array_equal(train.image(0), val.image(0))
    assert sorted(path.name for path in (tmp_path / "annotations").iterdir()) == [
        "instances_train.json", "instances_val.json",
    ]  # fmt: skip


def test_written_masks_are_the_drawn_ones(tmp_path):
    write_shapes(tmp_path, 4, seed=9, size_hw=(80, 80))
    dataset = load_dataset(find_split(tmp_path, "train"))
    rng = np.random.default_rng((9, False))
    for index in range(4):
        image, drawn = draw_scene(rng, (80, 80), 8)
        np.testing.assert_array_equal(dataset.image(index), image)
        for one, (label, mask) in zip(dataset.objects(index), drawn, strict=True):
            x0, y0, x1, y1 = one.rect
            assert one.label == label
            np.testing.assert_array_equal(one.crop, mask[y0:y1, x0:x1])
            assert one.crop.sum() == mask.sum()


def test_a_later_shape_covers_the_earlier_ones():
    covered = 0
    for seed in range(20):
        _, drawn = draw_scene(np.random.default_rng(seed), (120, 120), 10)
        masks = np.array([mask for _, mask in drawn])
        assert masks.sum(0).max(initial=0) <= 1 and all(mask.sum() >= MIN_AREA for mask in masks)
        covered += len(masks)
    assert covered > 60


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Shapes cannot be written to"):
        write_shapes(tmp_path / "file", 1, seed=0)

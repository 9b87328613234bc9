# SPDX-License-Identifier: Apache-2.0
"""Layouts: recognised from the folder, and the same images and masks are the same objects and losses in each."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from benchmarks.three_layouts import write_three, write_yolo
from centermask.config import Config, InputConfig, LossConfig, ModelConfig, TrainConfig
from centermask.data.dataset import Dataset, ObjectMask, load_dataset
from centermask.data.formats.layouts import Split, dataset_root, find_dataset, find_split
from centermask.evaluation.coco_ap import coco_ap, load_ground_truth
from centermask_runtime.errors import DataError
from tests.support.nuclei_polygons import CLASSES, polygon_content, write_polygons
from tests.support.written_layouts import NUCLEUS, opened, roboflow, yolo

LAYOUTS = ("coco", "roboflow", "yolo")


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """coco/, roboflow/ and yolo/ of the same real nuclei, three classes, splits train and val."""
    folder = tmp_path_factory.mktemp("layouts")
    write_three(write_polygons(folder / "source"), folder / "three")
    return folder / "three"


def same(one: ObjectMask, other: ObjectMask) -> bool:
    return one.label == other.label and one.rect == other.rect and np.array_equal(one.crop, other.crop)


def iou(one: ObjectMask, other: ObjectMask, size_hw: tuple[int, int]) -> float:
    full = np.zeros((2, *size_hw), np.bool_)
    for mask, (x0, y0, x1, y1), crop in zip(full, (one.rect, other.rect), (one.crop, other.crop), strict=True):
        mask[y0:y1, x0:x1] = crop
    return float((full[0] & full[1]).sum() / (full[0] | full[1]).sum())


@pytest.mark.parametrize("split", ["train", "val"])
def test_three_layouts_hold_the_same_objects(three, split):
    coco, *others = (opened(three / layout, split) for layout in LAYOUTS)
    assert sum(len(coco.objects(index)) for index in range(len(coco))) > 50
    for other in others:
        assert other.class_names == coco.class_names == CLASSES
        assert [image.path.name for image in other.images] == [image.path.name for image in coco.images]
        for index in range(len(coco)):
            pairs = list(zip(coco.objects(index), other.objects(index), strict=True))
            assert pairs and all(same(*pair) for pair in pairs)
            np.testing.assert_array_equal(coco.image(index), other.image(index))


def test_three_layouts_of_coco_hold_the_same_objects(shared_data, tmp_path):
    write_three(shared_data / "coco", tmp_path, splits=("val",), limit=12)
    coco, *others = (opened(tmp_path / layout, "val") for layout in LAYOUTS)
    assert len(coco.class_names) == 80 and sum(len(coco.objects(index)) for index in range(12)) > 100
    for other in others:
        assert other.class_names == coco.class_names
        for index in range(12):
            assert all(same(*pair) for pair in zip(coco.objects(index), other.objects(index), strict=True))


def test_labels_of_six_digits_move_hardly_a_pixel(three, tmp_path):
    """What exporters write. 1e-6 of a width is under a thousandth of a pixel, yet here every point lies where
    pycocotools rounds, so that outlines move by a fifth of a pixel; the nuclei are small, from 17 pixels on."""
    content, images = polygon_content("val", 3, 25)
    write_yolo(tmp_path, "val", content, images, digits=6)
    exact, rounded = opened(three / "yolo", "val"), opened(tmp_path, "val")
    values = [
        iou(one, other, (exact.images[index].height, exact.images[index].width))
        for index in range(len(exact))
        for one, other in zip(exact.objects(index), rounded.objects(index), strict=True)
    ]
    assert min(values) > 0.95 and np.mean(values) > 0.99


@pytest.mark.slow
def test_two_steps_of_training_are_the_same_in_three_layouts(three, tmp_path):
    """Losses of two epochs of one step and the AP at the end, digit for digit."""
    from centermask.training.run_folder import DataSource, RunFolder
    from centermask.training.trainer import Trainer

    config = Config(
        "layouts",
        ModelConfig("dla_46c", head_channels=16, shape_size=8, max_detections=30),
        InputConfig(size=(64, 64)),
        TrainConfig(epochs=2, batch=3, lr=1e-2, ema=0.1, workers=0, loss=LossConfig(mask_grid=8)),
    )
    outcomes = {}
    for layout in LAYOUTS:
        data = opened(three / layout, "train"), opened(three / layout, "val")
        run = RunFolder.choose(tmp_path, layout)
        again = DataSource.of(data[0]).load()  # as a resumed run does
        assert again.images == data[0].images and again.converted == data[0].converted
        metrics = Trainer(config, *data, run, device="cpu").fit().metrics
        rows = [
            {key: value for key, value in row.items() if key.startswith(("train/", "val/", "metrics/"))}
            for row in csv.DictReader(run.results.open())
        ]
        outcomes[layout] = rows, json.dumps(metrics)
    assert len(outcomes["coco"][0]) == 2 and float(outcomes["coco"][0][0]["train/total"]) > 0
    assert outcomes["coco"] == outcomes["roboflow"] == outcomes["yolo"]


def results_of(dataset: Dataset, *, spoiled: bool) -> list[dict]:
    """The truth as results of one fixed model; spoiled: each third object is missing, each second mask too thin."""
    results = []
    for index, image in enumerate(dataset.images):
        for number, one in enumerate(dataset.objects(index)):
            full = np.zeros((image.height, image.width), np.uint8)
            full[one.rect[1] : one.rect[3], one.rect[0] : one.rect[2]] = one.crop
            if spoiled and number % 3 == 0:
                continue
            if spoiled and number % 2:
                full = cv2.erode(full, np.ones((3, 3), np.uint8))
            runs = coco_mask.encode(np.asfortranarray(full))
            results.append(
                {"image_id": image.id, "category_id": dataset.category_ids[one.label], "score": 1 / (2 + number),
                 "segmentation": runs, "bbox": coco_mask.toBbox(runs).tolist()}
            )  # fmt: skip
    return results


def test_the_same_results_have_the_same_ap_in_three_layouts(three):
    found = {False: [], True: []}
    for layout in LAYOUTS:
        dataset = opened(three / layout, "val")
        for spoiled, values in found.items():
            truth = load_ground_truth(dataset.annotation_file, converted=dataset.converted)
            assert tuple(sorted(truth.cats)) == dataset.category_ids, "the placeholder is no class here either"
            values.append(coco_ap(truth, results_of(dataset, spoiled=spoiled), 100))
        if dataset.converted is not None:
            assert "area" not in dataset.converted["annotations"][0], "scoring must leave the data set alone"
    assert found[False][0]["segm"]["AP"] == pytest.approx(1.0) and found[False][0]["bbox"]["AP"] == pytest.approx(1.0)
    assert 0.2 < found[True][0]["segm"]["AP"] < 0.7
    for values in found.values():
        for other in values[1:]:
            for kind in ("bbox", "segm"):
                np.testing.assert_equal(other[kind], values[0][kind])


@pytest.mark.parametrize(
    ("annotations", "images", "split", "layout"),
    [
        ("annotations/instances_val2017.json", "val2017", "val", "COCO"),
        ("annotations/instances_train.json", "train", "train", "COCO"),
        ("valid/_annotations.coco.json", "valid", "val", "Roboflow COCO"),
        ("test/_annotations.coco.json", "test", "test", "Roboflow COCO"),
    ],
)
def test_known_layouts_are_recognised(tmp_path, annotations, images, split, layout):
    for folder in ("annotations", images):
        (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / annotations).write_text("{}")
    found = find_split(tmp_path, split)
    assert (found.name, found.annotations, found.images) == (split, tmp_path / annotations, tmp_path / images)
    assert found.layout.name == layout


def test_an_unknown_layout_is_refused_with_all_that_was_looked_for(tmp_path):
    with pytest.raises(DataError) as caught:
        find_split(tmp_path)
    for place in (
        "instances_val2017.json with val2017/",
        "instances_val.json with val/",
        "valid/_annotations.coco.json",
    ):
        assert place in str(caught.value)


def test_a_split_in_two_layouts_is_for_people_to_choose(tmp_path):
    yolo(tmp_path)
    roboflow(tmp_path, NUCLEUS)
    with pytest.raises(DataError, match=r"in the layouts Roboflow COCO and YOLO-seg; choose by naming the file"):
        find_split(tmp_path, "val")
    dataset = load_dataset(Split.of_files(tmp_path / "data.yaml", tmp_path / "images" / "val"))
    assert dataset.class_names == ("cat", "dog")


def test_names_are_looked_up_in_the_first_root_that_is_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for root in ("ours", "theirs", "datasets"):
        (tmp_path / root / f"in_{root}").mkdir(parents=True)
    monkeypatch.delenv("CENTERMASK_DATASETS", raising=False)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    assert find_dataset(Path("in_datasets")) == Path("datasets/in_datasets")
    monkeypatch.setenv("DETECTRON2_DATASETS", "theirs")
    assert find_dataset(Path("in_theirs")) == Path("theirs/in_theirs")
    monkeypatch.setenv("CENTERMASK_DATASETS", str(tmp_path / "ours"))
    assert find_dataset(Path("in_ours")) == tmp_path / "ours" / "in_ours" and dataset_root() == tmp_path / "ours"
    assert find_dataset(Path("theirs")) == Path("theirs")  # a folder goes before a name
    with pytest.raises(DataError, match=r"no data set of that name in .*ours: did you mean 'in_ours'\?"):
        find_dataset(Path("in_our"))
    (tmp_path / "file.json").write_text("{}")
    with pytest.raises(DataError, match=r"file\.json is a file"):
        find_dataset(Path("file.json"))


def test_a_data_set_is_the_same_after_a_worker_has_it(three):
    import pickle

    dataset = opened(three / "yolo", "val")
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.images == dataset.images and same(copy.objects(0)[0], dataset.objects(0)[0])
    assert dataclasses.replace(dataset, images=dataset.images[:1]).converted is dataset.converted

# SPDX-License-Identifier: Apache-2.0
"""Layouts: recognised from the folder, and the same images and masks are the same objects and losses in each."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from nuclei_polygons import CLASSES, NUCLEI, polygon_content, write_polygons
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import savemat

from benchmarks.three_layouts import write_three, write_yolo
from centermask.cli import main
from centermask.config import Config, InputConfig, LossConfig, ModelConfig, TrainConfig
from centermask.data.coco import CocoDataset, ObjectMask, find_split, load_coco
from centermask.data.layouts import dataset_root, find_dataset, recognise
from centermask.data.voc import CLASS_NAMES
from centermask.evaluation.coco_ap import coco_ap, load_ground_truth
from centermask_runtime.errors import DataError

LAYOUTS = ("coco", "roboflow", "yolo")


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """coco/, roboflow/ and yolo/ of the same real nuclei, three classes, splits train and val."""
    folder = tmp_path_factory.mktemp("layouts")
    write_three(write_polygons(folder / "source"), folder / "three")
    return folder / "three"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch's sums in one order, whatever the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def opened(folder: Path, split: str) -> CocoDataset:
    return load_coco(*find_split(folder, split))


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


@pytest.mark.usefixtures("one_thread")
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
        sources = DataSource.of(data[0]), DataSource.of(data[1])
        run.start(config, sources)
        again = sources[0].load()  # as a resumed run does
        assert again.images == data[0].images and again.converted == data[0].converted
        metrics = Trainer(config, *data, run, device="cpu").fit().metrics
        rows = [
            {key: value for key, value in row.items() if key.startswith(("train/", "val/", "metrics/"))}
            for row in csv.DictReader(run.results.open())
        ]
        outcomes[layout] = rows, json.dumps(metrics)
    assert len(outcomes["coco"][0]) == 2 and float(outcomes["coco"][0][0]["train/total"]) > 0
    assert outcomes["coco"] == outcomes["roboflow"] == outcomes["yolo"]


def results_of(dataset: CocoDataset, *, spoiled: bool) -> list[dict]:
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


def roboflow(folder: Path, categories: list[dict], category_id: int = 1) -> Path:
    content, images = polygon_content("train", 1, 3)
    for one in content["annotations"]:
        one["category_id"] = category_id
    place = folder / "valid"
    place.mkdir(parents=True)
    image = content["images"][0]["file_name"]
    (place / image).write_bytes((images / image).read_bytes())
    (place / "_annotations.coco.json").write_text(json.dumps({**content, "categories": categories}))
    return folder


PLACEHOLDER = {"id": 0, "name": "cells", "supercategory": "none"}
NUCLEUS = {"id": 1, "name": "nucleus", "supercategory": "cells"}


@pytest.mark.parametrize(
    ("categories", "annotated", "names"),
    [
        ([PLACEHOLDER, NUCLEUS], 1, ("nucleus",)),
        ([PLACEHOLDER, NUCLEUS], 0, ("cells", "nucleus")),  # somebody annotates it
        ([PLACEHOLDER, {**NUCLEUS, "supercategory": "none"}], 1, ("cells", "nucleus")),  # above nothing
        ([{**PLACEHOLDER, "supercategory": "x"}, NUCLEUS], 1, ("cells", "nucleus")),  # below something
        ([PLACEHOLDER], 0, ("cells",)),
    ],
)
def test_only_roboflows_placeholder_is_no_class(tmp_path, categories, annotated, names):
    assert opened(roboflow(tmp_path, categories, annotated), "val").class_names == names


def yolo(folder: Path, lines: str = "0 .1 .1 .5 .1 .5 .5", **data: object) -> Path:
    """Two images of 40 x 30, the second without labels."""
    for name in ("a", "b"):
        place = folder / "images" / "val" / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), "grey").save(place)
    (folder / "labels" / "val").mkdir(parents=True)
    (folder / "labels" / "val" / "a.txt").write_text(lines)
    (folder / "data.yaml").write_text(yaml.safe_dump({"val": "images/val", "names": ["cat", "dog"], **data}))
    return folder


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
    assert list(recognise(folder)[0].splits) == ["val"]


def test_another_yaml_file_is_no_data_set(tmp_path):
    (tmp_path / "config.yaml").write_text("names: {a: 1}\nlr: 0.1")
    assert recognise(tmp_path) == []
    yolo(tmp_path)
    (tmp_path / "data.yaml").rename(tmp_path / "pets.yaml")
    (tmp_path / "config.yaml").unlink()
    assert [layout.name for layout in recognise(tmp_path)] == ["YOLO-seg"]


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


def object_maps(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A real image with numbered nuclei, outlines void: image, object numbers, class numbers (1 to 20 in turn)."""
    dataset = opened(NUCLEI, "val")
    image = dataset.image(index)
    objects = np.zeros(image.shape[:2], np.uint8)
    classes = np.zeros(image.shape[:2], np.uint8)
    for number, one in enumerate(dataset.objects(index)[:25], 1):
        x0, y0, x1, y1 = one.rect
        objects[y0:y1, x0:x1][one.crop] = number
        classes[y0:y1, x0:x1][one.crop] = (number - 1) % 20 + 1
    edge = cv2.morphologyEx(objects, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    edge &= cv2.morphologyEx(objects, cv2.MORPH_TOPHAT, np.ones((3, 3), np.uint8)) == 0
    return image, np.where(edge, 255, objects).astype(np.uint8), np.where(edge, 255, classes).astype(np.uint8)


def write_voc(root: Path, names: list[str]) -> Path:
    for folder in ("JPEGImages", "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    palette = np.random.default_rng(0).integers(0, 255, 768).tolist()
    for index, name in enumerate(names):
        image, *maps = object_maps(index)
        Image.fromarray(image[..., ::-1]).save(root / "JPEGImages" / f"{name}.jpg")
        for folder, values in zip(("SegmentationObject", "SegmentationClass"), maps, strict=True):
            picture = Image.fromarray(values, "P")
            picture.putpalette(palette)
            picture.save(root / folder / f"{name}.png")
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(names) + "\n")
    return root


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
    assert [(one.name, list(one.splits)) for one in recognise(tmp_path)] == [(layout, ["val"])]
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


def test_the_year_2017_goes_before_others_which_have_names_of_their_own(tmp_path):
    for name in ("val2014", "val2017", "train2014"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{name}.json").write_text("{}")
    assert find_split(tmp_path, "val")[1] == tmp_path / "images" / "val2017"
    assert find_split(tmp_path, "val2014")[1] == tmp_path / "images" / "val2014"
    assert find_split(tmp_path, "train")[0].name == "instances_train2014.json"
    with pytest.raises(DataError, match=r"No split 'test' .*which has train, val"):
        find_split(tmp_path, "test")


def test_a_split_in_two_layouts_is_for_people_to_choose(tmp_path):
    yolo(tmp_path)
    roboflow(tmp_path, [NUCLEUS])
    with pytest.raises(DataError, match=r"in the layouts Roboflow COCO and YOLO-seg; choose by --annotations"):
        find_split(tmp_path, "val")
    dataset = load_coco(tmp_path / "data.yaml", tmp_path / "images" / "val")  # as --annotations and --images do
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


def test_datasets_lists_every_layout_with_its_numbers(three, tmp_path, monkeypatch, capsys):
    write_voc(three / "pascal", ["2007_000032"])
    (three / "broken").mkdir(exist_ok=True)
    (three / "broken" / "data.yaml").write_text("names: [")
    monkeypatch.setenv("CENTERMASK_DATASETS", str(three))
    main_ok(["datasets", "--json"])
    rows = {(row["name"], row["split"]): row for row in json.loads(capsys.readouterr().out)["datasets"]}
    expected = opened(three / "coco", "val")
    for layout, name in zip(LAYOUTS, ("COCO", "Roboflow COCO", "YOLO-seg"), strict=True):
        row = rows[layout, "val"]
        assert (row["layout"], row["images"], row["classes"]) == (name, 3, list(CLASSES))
        assert row["objects"] == sum(len(expected.objects(index)) for index in range(3))
    assert rows["pascal", "val"]["layout"] == "VOC" and "not YAML" in rows["broken", ""]["error"]
    main_ok(["datasets", str(three)])
    assert "pascal" in capsys.readouterr().out
    main_ok(["datasets", str(tmp_path)])
    assert "No data set" in capsys.readouterr().out


def main_ok(arguments: list[str]) -> None:
    try:
        main(arguments)
    except SystemExit as stopped:
        assert not stopped.code


def test_a_data_set_is_the_same_after_a_worker_has_it(three):
    import pickle

    dataset = opened(three / "yolo", "val")
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.images == dataset.images and same(copy.objects(0)[0], dataset.objects(0)[0])
    assert dataclasses.replace(dataset, images=dataset.images[:1]).converted is dataset.converted

# SPDX-License-Identifier: Apache-2.0
"""AP: perfect results score 1, numbers are pycocotools' own, and what exporters forget does not matter."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import math
from types import TracebackType
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from centermask.data.augment.affine import letterbox_affine
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import Split, find_split
from centermask.data.synthetic import write_shapes
from centermask.data.targets import make_targets
from centermask.evaluation.coco_ap import NAMES, coco_ap, load_ground_truth
from centermask.evaluation.evaluate import MASK_THRESHOLDS, category_ids_for, choose_mask_threshold, evaluate
from centermask_runtime.errors import DataError
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.spec import ModelSpec
from tests.support.places import NUCLEI

VAL = NUCLEI / "annotations" / "instances_val.json"


def truth_as_results(content: dict) -> list[dict]:
    return [
        {key: entry[key] for key in ("image_id", "category_id", "bbox", "segmentation")} | {"score": 0.9}
        for entry in content["annotations"]
    ]


def damaged(results: list[dict], seed: int = 0) -> list[dict]:
    """Some found, some missed, some moved or of a wrong size, with scores that say nothing."""
    rng = np.random.default_rng(seed)
    changed = []
    for result in results:
        if rng.random() < 0.2:
            continue
        mask = coco_mask.decode(result["segmentation"])
        moved = np.roll(mask, tuple(rng.integers(-3, 4, 2)), (0, 1))
        runs = coco_mask.encode(np.asfortranarray(moved))
        box = (np.array(coco_mask.toBbox(runs)) + rng.normal(0, 1, 4)).tolist()
        changed.append({**result, "segmentation": runs, "bbox": box, "score": float(rng.random())})
    return changed


@pytest.fixture(scope="module")
def content() -> dict:
    return json.loads(VAL.read_text())


def test_the_ground_truth_as_results_scores_one(content):
    ap = coco_ap(load_ground_truth(VAL), truth_as_results(content), 400)
    for kind in ("bbox", "segm"):
        assert all(value == pytest.approx(1.0) for value in ap[kind].values() if not np.isnan(value))
        assert ap[kind]["AP"] == pytest.approx(1.0) and np.isnan(ap[kind]["APl"])  # no nucleus is large


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_numbers_are_pycocotools_own_summary(content, kind):
    """At K = 100, where COCOeval.summarize prints the same seven."""
    results = damaged(truth_as_results(content))
    truth = load_ground_truth(VAL)
    without_box = results if kind == "bbox" else [{k: v for k, v in one.items() if k != "bbox"} for one in results]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(without_box), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = np.where(evaluation.stats == -1, np.nan, evaluation.stats)
    expected = dict(zip(NAMES, stats[[0, 1, 2, 3, 4, 5, 8]].tolist(), strict=True))
    found = coco_ap(truth, results, 100)[kind]
    assert 0.05 < found["AP"] < 0.95
    assert found == pytest.approx(expected, nan_ok=True)


def test_more_detections_an_image_than_coco_counts(content):
    """Microscopy has hundreds of objects an image: K = 100 would cut them off."""
    results, truth = truth_as_results(content), load_ground_truth(VAL)
    assert max(np.bincount([one["image_id"] for one in results])) > 100
    assert coco_ap(truth, results, 100)["segm"]["AP"] < coco_ap(truth, results, 400)["segm"]["AP"] - 0.02


def test_missing_area_iscrowd_and_bbox_are_filled_in(content, tmp_path):
    results = damaged(truth_as_results(content))
    bare = json.loads(VAL.read_text())
    for entry in bare["annotations"]:
        for key in ("area", "iscrowd", "bbox"):
            entry.pop(key, None)
    bare.pop("info", None)
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    expected = coco_ap(load_ground_truth(VAL), results, 400)
    assert coco_ap(load_ground_truth(tmp_path / "bare.json"), results, 400) == {
        kind: pytest.approx(values, nan_ok=True) for kind, values in expected.items()
    }


def test_annotation_ids_from_0_and_boolean_crowds_change_nothing(content, tmp_path):
    """COCOeval notes a match by its id and takes 0 for none."""
    results = truth_as_results(content)
    counted = json.loads(VAL.read_text())
    for number, entry in enumerate(counted["annotations"]):
        entry["id"], entry["iscrowd"] = number, bool(entry["iscrowd"])
    counted["annotations"] = counted["annotations"][:1] + [
        entry for entry in counted["annotations"] if entry["image_id"] != counted["annotations"][0]["image_id"]
    ]
    (tmp_path / "zero.json").write_text(json.dumps(counted))
    kept = [results[entry["id"]] for entry in counted["annotations"]]
    truth = load_ground_truth(tmp_path / "zero.json")
    assert coco_ap(truth, kept, 400)["segm"]["AR"] == coco_ap(truth, kept, 400)["bbox"]["AR"] == 1.0
    assert {type(entry["iscrowd"]) for entry in truth.dataset["annotations"]} == {int}


def test_the_results_stay_as_they_were_and_only_the_kinds_asked_for_are_computed(content):
    results = truth_as_results(content)
    before = copy.deepcopy(results)
    assert set(coco_ap(load_ground_truth(VAL), results, 400, kinds=("bbox",))) == {"bbox"}
    coco_ap(load_ground_truth(VAL), results, 400)
    assert results == before


def test_filled_areas_are_those_of_the_masks(tmp_path):
    """By hand: a polygon of 20 x 10 pixels and the same as uncompressed run lengths."""
    polygon = [5, 5, 25, 5, 25, 15, 5, 15]
    mask = np.zeros((40, 50), np.uint8)
    mask[5:15, 5:25] = 1
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    entries = [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [polygon]},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [40, 50], "counts": counts}},
    ]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 50}],
        "annotations": entries, "categories": [{"id": 1, "name": "a"}],
    }))  # fmt: skip
    for annotation in load_ground_truth(path).dataset["annotations"]:
        assert annotation["area"] == 200 and annotation["bbox"] == [5, 5, 20, 10] and annotation["iscrowd"] == 0


def test_nothing_found_scores_zero_where_there_was_something_to_find():
    ap = coco_ap(load_ground_truth(VAL), [], 100)
    assert ap["segm"]["AP"] == ap["bbox"]["AP50"] == ap["segm"]["AR"] == 0.0
    assert np.isnan(ap["segm"]["APl"])


def test_only_some_images_count(content):
    ids = {content["images"][0]["id"], content["images"][1]["id"]}
    results = [one for one in truth_as_results(content) if one["image_id"] in ids]
    assert coco_ap(load_ground_truth(VAL, ids), results, 400)["segm"]["AP"] == pytest.approx(1.0)
    assert coco_ap(load_ground_truth(VAL), results, 400)["segm"]["AP"] < 0.9


# ---- through the pipeline -------------------------------------------------------------------------------------------


class KnowingNetwork:
    """Answers with the ground truth, image after image; probabilities of masks are `level` at most."""

    description, batch = "the truth", None

    def __init__(self, dataset: Dataset, level: float = 0.99) -> None:
        self.dataset, self.level, self.calls = dataset, level, 0
        classes = len(dataset.class_names)
        self.spec = ModelSpec(
            "knowing", dataset.class_names, dataset.category_ids, (160, 192), (0.0,) * 3, (1.0,) * 3,
            shape_size=32, saliency_channels=classes, max_detections=20,
        )  # fmt: skip

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        index, self.calls = self.calls % len(self.dataset), self.calls + 1
        record = self.dataset.images[index]
        frame_hw, classes = (record.height, record.width), len(self.dataset.class_names)
        targets = make_targets(
            self.dataset.objects(index), letterbox_affine(frame_hw, self.spec.input_hw), self.spec.input_hw,
            num_classes=classes, saliency_channels=classes, stride=4, mask_grid=32,
        )  # fmt: skip
        n = len(targets.labels)
        shapes = (targets.masks * self.level).clip(1e-4, 1)
        return PeakOutputs(
            np.linspace(0.9, 0.5, n, dtype=np.float32)[None], targets.labels[None].astype(np.int32),
            targets.boxes[None], np.log(shapes / (1 - shapes))[None], np.full((1, classes, 40, 48), 20, np.float32),
        )  # fmt: skip

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Dataset:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, 1, seed=3, val_count=4)
    return load_dataset(find_split(folder, "val"))


def test_a_network_that_knows_scores_nearly_one(shapes):
    seen: list[tuple[int, str]] = []

    def progress(indices, count, title):
        seen.append((count, title))
        return indices

    evaluation = evaluate(KnowingNetwork(shapes), shapes, progress=progress)
    assert evaluation.metrics["bbox"]["AP"] > 0.95 and evaluation.metrics["segm"]["AP"] > 0.95
    assert seen == [(4, "validate")] and {one["image_id"] for one in evaluation.results} == {1, 2, 3, 4}
    assert {one["category_id"] for one in evaluation.results} <= {1, 2, 3}


def test_scores_below_the_threshold_do_not_count(shapes):
    low = evaluate(KnowingNetwork(shapes), shapes, score_threshold=0.7)
    everything = evaluate(KnowingNetwork(shapes), shapes)
    assert len(low.results) < len(everything.results) and min(one["score"] for one in low.results) >= 0.7


@pytest.mark.parametrize(("level", "low", "high"), [(0.62, 0.3, 0.4), (0.99, 0.45, 0.6)])
def test_the_best_mask_threshold_is_chosen(shapes, level, low, high):
    """Shapes are `level` inside and 0 outside, soft between: an edge is right at about half of the level.

    The choice is the highest AP of the table; thresholds above the level leave nothing.
    """
    chosen, table = choose_mask_threshold(KnowingNetwork(shapes, level), shapes)
    assert tuple(table) == MASK_THRESHOLDS and table[chosen] == max(table.values())
    assert low <= chosen <= high
    assert all(ap == 0 for threshold, ap in table.items() if threshold > level)
    again = evaluate(KnowingNetwork(shapes, level), shapes, mask_threshold=chosen)
    assert again.metrics["segm"]["AP"] == pytest.approx(table[chosen])


def test_images_for_the_mask_threshold_are_spread_over_the_set(shapes, monkeypatch):
    monkeypatch.setattr("centermask.evaluation.evaluate.THRESHOLD_IMAGES", 2)
    seen: list[int] = []
    pixels = Dataset.image

    def image(dataset: Dataset, index: int) -> NDArray[np.uint8]:
        seen.append(index)
        return pixels(dataset, index)

    monkeypatch.setattr(Dataset, "image", image)
    choose_mask_threshold(KnowingNetwork(shapes), shapes)
    assert len(shapes) == 4 and seen == [0, 2]


def test_without_an_object_the_mask_threshold_is_the_middle(shapes, tmp_path):
    content = json.loads(shapes.annotation_file.read_text())
    (tmp_path / "empty.json").write_text(json.dumps({**content, "annotations": []}))
    chosen, table = choose_mask_threshold(
        KnowingNetwork(shapes), load_dataset(Split.of_files(tmp_path / "empty.json", shapes.images_dir))
    )
    assert chosen == 0.5 and all(math.isnan(ap) for ap in table.values())


def test_the_same_classes_under_other_ids_are_the_same_data(shapes, tmp_path):
    """Numbered from 0 and in another order, as YOLO might: the AP is the same, and results have the data set's ids."""
    content = json.loads(shapes.annotation_file.read_text())
    other = {category["id"]: 3 - category["id"] for category in content["categories"]}  # 1, 2, 3 -> 2, 1, 0
    for category in content["categories"]:
        category["id"] = other[category["id"]]
    for entry in content["annotations"]:
        entry["category_id"] = other[entry["category_id"]]
    (tmp_path / "turned.json").write_text(json.dumps(content))
    turned = load_dataset(Split.of_files(tmp_path / "turned.json", shapes.images_dir))
    assert turned.category_ids == (0, 1, 2) and turned.class_names == shapes.class_names[::-1]
    truth, found = evaluate(KnowingNetwork(shapes), shapes), evaluate(KnowingNetwork(shapes), turned)
    assert found.metrics == {kind: pytest.approx(values, nan_ok=True) for kind, values in truth.metrics.items()}
    assert [one["category_id"] for one in found.results] == [other[one["category_id"]] for one in truth.results]
    thresholds = choose_mask_threshold(KnowingNetwork(shapes), turned)
    assert thresholds == choose_mask_threshold(KnowingNetwork(shapes), shapes)


def test_names_that_are_there_twice_must_be_numbered_alike(shapes):
    """Which of the two is meant cannot be told by the name."""
    twice = dataclasses.replace(shapes, class_names=("star", "star", "ellipse"))
    turned = dataclasses.replace(shapes, class_names=("ellipse", "star", "star"))
    sentence = r"numbers the classes ellipse, star, star, but the model 'knowing' was trained for star, star, ellipse"
    with pytest.raises(DataError, match=sentence):
        evaluate(KnowingNetwork(twice), turned)
    assert category_ids_for(KnowingNetwork(twice).spec, twice) == (1, 2, 3)


def test_a_data_set_of_other_classes_is_refused(shapes):
    nuclei = load_dataset(find_split(NUCLEI, "val"))
    sentence = r"has the category ids 1, but the model 'knowing' was trained for 1, 2, 3 \(ellipse, rectangle, star\)"
    for ask in (evaluate, choose_mask_threshold):
        with pytest.raises(DataError, match=sentence):
            ask(KnowingNetwork(shapes), nuclei)

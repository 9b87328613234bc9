# SPDX-License-Identifier: Apache-2.0
"""A network through the pipeline scores what it knows; the best mask threshold is chosen; classes go by name."""

from __future__ import annotations

import dataclasses
import json
import math
from types import TracebackType
from typing import Self

import numpy as np
import pytest
from numpy.typing import NDArray

from centermask.data.augment.affine import letterbox_affine
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import Split, find_split
from centermask.data.synthetic import write_shapes
from centermask.data.targets import make_targets
from centermask.evaluation.evaluate import MASK_THRESHOLDS, category_ids_for, choose_mask_threshold, evaluate
from centermask_runtime.errors import DataError
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.spec import ModelSpec
from tests.support.places import NUCLEI


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

    def image(dataset: Dataset, index: int, values: object = None) -> NDArray[np.uint8]:
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

# SPDX-License-Identifier: Apache-2.0
"""A network trained on a few images must find every object in them: targets, losses, decoding and masks mean the same.

No augmentation, so training sees exactly what inference sees; a shift by half a cell anywhere, a swapped axis or a
wrong channel would cap AP however long it trained. Random initialisation, class-specific saliency, the mask threshold
as chosen at the end: all as in a real training, only short.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from centermask.config import Config, InputConfig, ModelConfig, TrainConfig
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import Split, find_split
from centermask.data.synthetic import write_shapes
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer, TrainingResult

pytestmark = pytest.mark.slow


PHOTOGRAPHS = 8
MOST_OBJECTS = 6
LEAST_SIDE = 24  # root of the mask's area in input pixels: six cells of the heat map


def quick(name: str, side: int, *, epochs: int, batch: int, lr: float) -> Config:
    return Config(
        name,
        ModelConfig("dla_46c", head_channels=64, shape_size=32, saliency="class_specific", max_detections=20),
        InputConfig(size=(side, side)),
        TrainConfig(
            epochs=epochs, batch=batch, optimizer="adamw", lr=lr, warmup_steps=20, schedule="cosine", ema=0.95,
            workers=0, cache=True, val_every=epochs,
        ),
    )  # fmt: skip


def train_on_itself(config: Config, dataset: Dataset, folder: Path, *, repeats: int) -> TrainingResult:
    """Every image `repeats` times an epoch, because each epoch ends with writing files; validated on each once."""
    often = dataclasses.replace(dataset, images=dataset.images * repeats, annotations=dataset.annotations * repeats)
    run = RunFolder.choose(folder, config.name)
    return Trainer(config, often, dataset, run, device="cpu", augmented=False).fit()


def first_simple_images(content: dict[str, Any], side: int) -> dict[str, Any]:
    """Of a COCO file the PHOTOGRAPHS lowest image ids with 1 to MOST_OBJECTS objects, none of them a crowd or small.

    Every object of these images stays, and of the categories those that occur.
    """
    objects = defaultdict(list)
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)

    def simple(image: dict[str, Any]) -> bool:
        scale = side / max(image["height"], image["width"])
        mine = objects[image["id"]]
        return 1 <= len(mine) <= MOST_OBJECTS and not any(
            one["iscrowd"] or one["area"] ** 0.5 * scale < LEAST_SIDE for one in mine
        )

    images = sorted(filter(simple, content["images"]), key=lambda image: int(image["id"]))[:PHOTOGRAPHS]
    annotations = [one for image in images for one in objects[image["id"]]]
    used = {one["category_id"] for one in annotations}
    categories = [one for one in content["categories"] if one["id"] in used]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_drawn_shapes_are_learned_by_heart(tmp_path):
    write_shapes(tmp_path, 1, seed=5, val_count=6, size_hw=(96, 96), max_objects=3)
    dataset = load_dataset(find_split(tmp_path, "val"))
    config = quick("shapes", 96, epochs=5, batch=3, lr=2e-3)
    result = train_on_itself(config, dataset, tmp_path / "runs", repeats=25)
    assert result.metrics["segm"]["AP50"] >= 0.9 and result.metrics["bbox"]["AP50"] >= 0.9, result.metrics


def test_photographs_are_learned_by_heart(shared_data, tmp_path):
    """Eight photographs of COCO, 12 objects, 320 steps. Boxes half a cell off would not reach their AP of 0.8."""
    photographs = find_split(shared_data / "coco", "val")
    side = 192
    subset = first_simple_images(json.loads(photographs.annotations.read_text()), side)
    (tmp_path / "subset.json").write_text(json.dumps(subset))
    dataset = load_dataset(Split.of_files(tmp_path / "subset.json", photographs.images))
    assert len(dataset) == PHOTOGRAPHS and len(subset["annotations"]) >= PHOTOGRAPHS
    config = quick("photographs", side, epochs=5, batch=4, lr=2e-3)
    result = train_on_itself(config, dataset, tmp_path / "runs", repeats=32)
    assert result.metrics["segm"]["AP50"] >= 0.9 and result.metrics["bbox"]["AP"] >= 0.8, result.metrics

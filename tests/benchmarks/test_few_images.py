# SPDX-License-Identifier: Apache-2.0
"""The benchmark of small sets: which images it draws, and that a row is trained, exported, measured and noted."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from benchmarks import few_images
from benchmarks.few_images import draw_images, markdown
from centermask.model.network import build_model
from centermask.model.weights import save_weights, spec_of
from tests.support.places import NUCLEI
from tests.support.processes import environment
from tests.support.tiny_training import CONFIG

TINY = """
name: tiny
model: {backbone: dla_46c, head_channels: 16, shape_size: 8, max_detections: 10, freeze: stem}
input: {size: [64, 64]}
train: {epochs: 1, batch: 2, workers: 0, warmup_steps: 0, precision: 32-true, base_lr: 0.1, loss: {mask_grid: 8}}
"""


def coco(images: int) -> dict[str, list[dict[str, int]]]:
    """Every third image is empty, one shows a crowd alone, the others two objects."""
    shown = [number for number in range(images) if number % 3]
    annotations = [{"id": 2 * n + i, "image_id": n, "iscrowd": int(n == shown[0])} for n in shown for i in (0, 1)]
    return {"images": [{"id": number} for number in range(images)], "annotations": annotations, "categories": []}


def test_smaller_draws_are_parts_of_larger_ones_and_every_image_shows_an_object():
    content = coco(40)
    drawn = [draw_images(content, count, seed=3) for count in (5, 10, 100)]
    ids = [{image["id"] for image in one["images"]} for one in drawn]
    assert [len(one) for one in ids] == [5, 10, 25] and ids[0] < ids[1] < ids[2]
    assert all(number % 3 and number != 1 for number in ids[2])
    assert {one["image_id"] for one in drawn[0]["annotations"]} == ids[0] and len(drawn[0]["annotations"]) == 10
    assert {image["id"] for image in draw_images(content, 5, seed=4)["images"]} != ids[0]
    assert drawn[0]["categories"] == content["categories"]


def test_the_table_says_where_a_training_started():
    row = {"images": 20, "objects": 54, "steps": 715, "seconds": 660, "cpu_s": 1170}
    aps = {"bbox AP": 0.25, "bbox AP50": 0.5, "segm AP": 0.2, "segm AP50": 0.456}
    table = markdown([{**row, **aps, "start": "weights"}, {**row, **aps, "start": "scratch"}])
    assert table.splitlines()[2:] == [
        "| 20 | 54 | published weights | 715 | 25.0 | 20.0 | 45.6 | 11.0 | 19.5 |",
        "| 20 | 54 | from scratch | 715 | 25.0 | 20.0 | 45.6 | 11.0 | 19.5 |",
    ]


@pytest.mark.slow
@pytest.mark.process
def test_a_row_is_trained_exported_measured_and_not_done_again(tmp_path, monkeypatch):
    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    (tmp_path / "tiny.yaml").write_text(TINY)
    spec = spec_of(CONFIG, ("nucleus",), (1,))
    save_weights(tmp_path / "start.safetensors", build_model(CONFIG, 1).state_dict(), spec, CONFIG)
    train, val = (NUCLEI / "annotations" / f"instances_{split}.json" for split in ("train", "val"))
    arguments = [
        "--config", tmp_path / "tiny.yaml", "--annotations", train, "--images", NUCLEI / "train",
        "--val-annotations", val, "--val-images", NUCLEI / "val", "--weights", tmp_path / "start.safetensors",
        "--count", 2, "--output", tmp_path / "runs", "--json", tmp_path / "numbers.json", "--set", "train.val_every=1",
    ]  # fmt: skip
    for _ in range(2):
        done = CliRunner().invoke(few_images.main, [str(one) for one in arguments], catch_exceptions=False)
        assert done.exit_code == 0
        monkeypatch.setattr(few_images, "_centermask", lambda *_, **__: pytest.fail("is done already"))
    report = json.loads((tmp_path / "numbers.json").read_text())
    assert [(row["images"], row["start"], row["steps"]) for row in report["rows"]] == [
        (2, "weights", 1),
        (2, "scratch", 1),
    ]
    assert all(0 <= row["segm AP50"] <= 1 and row["cpu_s"] > 0 for row in report["rows"])
    scratch = (tmp_path / "runs" / "scratch_2_seed0" / "args.yaml").read_text()
    assert "freeze: 0" in scratch and "base_lr: 1.0" in scratch and "published weights" in done.output

# SPDX-License-Identifier: Apache-2.0
"""AP: perfect results score 1, numbers are pycocotools' own, and what exporters forget does not matter."""

from __future__ import annotations

import contextlib
import copy
import io
import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from centermask.evaluation.coco_ap import NAMES, coco_ap, load_ground_truth
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

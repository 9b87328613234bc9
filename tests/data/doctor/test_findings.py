# SPDX-License-Identifier: Apache-2.0
"""The doctor names each fault planted in the annotations and nothing else; where pycocotools can tell, it agrees.

Each test plants one fault in a sound data set of real images (the nuclei as polygons) and compares what is found before
and after.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from centermask.data.dataset import load_dataset
from centermask.data.doctor.findings import KINDS, Severity
from centermask.data.formats.layouts import find_split
from tests.support.nuclei_polygons import CATEGORY_IDS
from tests.support.sound_data import Content, entry, found, refuses, shape_of, truth


def whole_image_runs(content: Content) -> list[int]:
    height, width = shape_of(content)
    return [height * width]


# kind -> (how to spoil the annotations, what pycocotools says of them); kinds with None: it cannot tell
ANNOTATION_FAULTS: dict[str, tuple[Callable[[Content], Any], Callable[[COCO, Content], bool] | None]] = {
    "bad-entry": (lambda c: c["images"][0].pop("height"), None),
    "duplicate-category-id": (
        lambda c: c["categories"].append({"id": 3, "name": "again"}),
        lambda coco, c: len(coco.cats) < len(c["categories"]),
    ),
    "duplicate-annotation-id": (
        lambda c: c["annotations"][1].update(id=c["annotations"][0]["id"]),
        lambda coco, c: len(coco.anns) < len(c["annotations"]),
    ),
    "unknown-image-id": (lambda c: entry(c, image_id=99), lambda coco, c: 99 not in coco.imgs),
    "unknown-category-id": (lambda c: entry(c, category_id=4), lambda coco, c: 4 not in coco.cats),
    "empty-segmentation": (
        lambda c: entry(c, segmentation=[]),
        lambda coco, c: refuses(lambda: coco.annToMask(coco.dataset["annotations"][0])),
    ),
    "short-polygon": (
        lambda c: entry(c, segmentation=[[50.0, 60.0, 70.0, 80.0]]),
        lambda coco, c: refuses(lambda: coco.annToMask(coco.dataset["annotations"][0])),
    ),
    "bad-polygon": (
        lambda c: entry(c, segmentation=[[1.0, 2.0, None, 4.0, 5.0, 6.0]]),
        None,  # it takes null for NaN and never comes back
    ),
    "rle-size": (
        lambda c: entry(c, segmentation={"size": [7, 9], "counts": [63]}),
        lambda coco, c: coco_mask.decode(coco_mask.frPyObjects({"size": [7, 9], "counts": [63]}, 7, 9)).shape == (7, 9),
    ),
    "damaged-rle": (
        lambda c: entry(c, segmentation={"size": shape_of(c), "counts": "abc0012"}),  # runs that end early
        lambda coco, c: coco.annToMask(coco.dataset["annotations"][0]).sum() != c["annotations"][0]["area"],
    ),
    "zero-area-mask": (
        lambda c: entry(c, segmentation={"size": shape_of(c), "counts": whole_image_runs(c)}),
        lambda coco, c: not coco.annToMask(coco.dataset["annotations"][0]).any(),
    ),
    "bad-crowd": (lambda c: entry(c, iscrowd="no"), None),
    "bad-box": (lambda c: entry(c, bbox=[1, 2, None, 4]), None),
    "box-mask-mismatch": (
        lambda c: entry(c, bbox=[c["annotations"][0]["bbox"][0] + 9, *c["annotations"][0]["bbox"][1:]]),
        lambda coco, c: box_iou(coco, coco.dataset["annotations"][0]) < 0.8,
    ),
    "area-mismatch": (
        lambda c: entry(c, area=3 * c["annotations"][0]["area"]),
        lambda coco, c: coco.annToMask(one := coco.dataset["annotations"][0]).sum() == one["area"] / 3,
    ),
    "duplicate-object": (
        lambda c: c["annotations"].append({**c["annotations"][0], "id": 999, "category_id": CATEGORY_IDS[0]}),
        lambda coco, c: same_mask(coco, coco.dataset["annotations"][0], coco.anns[999]),
    ),
    "image-listed-twice": (
        lambda c: c["images"].append({**c["images"][0], "id": 999}),
        lambda coco, c: coco.loadImgs(999)[0]["file_name"] == c["images"][0]["file_name"],
    ),
    "image-without-objects": (
        lambda c: c.update(annotations=[a for a in c["annotations"] if a["image_id"] != c["images"][0]["id"]]),
        lambda coco, c: coco.getAnnIds(c["images"][0]["id"]) == [],
    ),
    "class-unused": (
        lambda c: c["categories"].append({"id": 91, "name": "kite"}),
        lambda coco, c: coco.getAnnIds(catIds=[91]) == [],
    ),
    "class-missing": (
        lambda c: c.update(annotations=[one for one in c["annotations"] if one["category_id"] != 90]),
        lambda coco, c: coco.getAnnIds(catIds=[90]) == [],
    ),
}  # fmt: skip


# what follows from a fault by necessity
CONSEQUENCES = {
    "bad-entry": {"class-rare"},  # the objects of the image are out
    "image-listed-twice": {"duplicate-image", "image-without-objects"},
    "class-unused": {"class-lists-differ"},
    "image-without-objects": {"class-rare"},
}


def box_iou(coco: COCO, one: dict[str, Any]) -> float:
    tight = coco_mask.toBbox(coco.annToRLE(one))
    return float(coco_mask.iou(np.array([one["bbox"]], float), tight[None].astype(float), [0])[0, 0])


def same_mask(coco: COCO, one: dict[str, Any], other: dict[str, Any]) -> bool:
    return float(coco_mask.iou([coco.annToRLE(one)], [coco.annToRLE(other)], [0])[0, 0]) == 1.0


@pytest.mark.parametrize("kind", ANNOTATION_FAULTS)
def test_a_fault_in_the_annotations_is_named_and_pycocotools_agrees(sound, kind):
    folder, content = sound
    spoil, agrees = ANNOTATION_FAULTS[kind]
    spoil(content)
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    findings = found(folder)
    assert kind in findings, findings
    assert "train" in findings[kind][1][0] or kind == "class-unused"
    assert set(findings) - {kind} <= CONSEQUENCES.get(kind, set()), findings
    assert findings[kind][0] == 1
    if agrees is not None:
        assert agrees(truth(folder), content)
    refused = refuses(lambda: load_dataset(find_split(folder, "train")))
    errors = {name for name in findings if KINDS[name].severity is Severity.ERROR} - {"class-lists-differ"}
    assert refused == bool(errors), "an error of one split is what the loader refuses"


def test_two_images_of_one_id_are_named(sound):
    folder, content = sound
    content["images"].append({**content["images"][0], "file_name": "other.png"})
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert found(folder)["duplicate-image-id"][0] == 1 and len(truth(folder).imgs) < len(content["images"])


def test_every_kind_is_planted_somewhere():
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []

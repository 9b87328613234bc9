# SPDX-License-Identifier: Apache-2.0
"""Writes one data set in three layouts, COCO, Roboflow COCO and YOLO-seg, with the same images, classes and polygons.

YOLO labels know one outline an object and no crowds, so all three keep only the objects that have one polygon. Images
are linked, not copied, and keep their order; class i of YOLO is category i + 1 of Roboflow, whose category 0 is its
placeholder. Prints the commands that train on each to the end: the AP of the three must be the same.

    python benchmarks/three_layouts.py --data datasets/coco --output three
"""

from __future__ import annotations

import json
import os
import shlex
from collections import defaultdict
from pathlib import Path
from typing import Any

import click
import yaml

from centermask.data.checks import refuse
from centermask.data.formats.layouts import find_dataset, find_split

ROBOFLOW_FOLDER = {"train": "train", "val": "valid"}


def write_three(data: Path, output: Path, splits: tuple[str, ...] = ("train", "val"), limit: int | None = None) -> None:
    """Makes output/{coco,roboflow,yolo} from splits of a COCO data set, of each the first `limit` images by name."""
    for split in splits:
        place = find_split(data, split)
        images = place.images
        content = single_polygons(place.read(refuse(place.annotations)), limit)
        write_coco(output / "coco", split, content, images)
        write_roboflow(output / "roboflow", split, content, images)
        write_yolo(output / "yolo", split, content, images)


def single_polygons(content: dict[str, Any], limit: int | None = None) -> dict[str, Any]:
    """The images in the order of their names and the objects that are one polygon, both numbered from 1 in that order.

    Without `bbox` and `area`, which YOLO labels lack: so all three layouts take them from the masks. The order of the
    image ids matters as well: among equal scores AP ranks by it.
    """
    entries = sorted(content["images"], key=lambda image: image["file_name"])[:limit]
    of_image = defaultdict(list)
    for one in content["annotations"]:
        polygons = one["segmentation"]
        if not one.get("iscrowd") and isinstance(polygons, list) and len(polygons) == 1:
            of_image[one["image_id"]].append(one)
    kept = [
        {"image_id": place, "category_id": one["category_id"], "segmentation": one["segmentation"], "iscrowd": 0}
        for place, image in enumerate(entries, 1)
        for one in of_image[image["id"]]
    ]
    return {
        "images": [
            {**image, "id": place, "file_name": Path(image["file_name"]).name} for place, image in enumerate(entries, 1)
        ],
        "annotations": [{"id": number, **one} for number, one in enumerate(kept, 1)],
        "categories": sorted(content["categories"], key=lambda category: category["id"]),
    }


def write_coco(folder: Path, split: str, content: dict[str, Any], images: Path) -> None:
    _write_json(folder / "annotations" / f"instances_{split}.json", content)
    _link(content, images, folder / split)


def write_roboflow(folder: Path, split: str, content: dict[str, Any], images: Path) -> None:
    new_id = {category["id"]: number for number, category in enumerate(content["categories"], 1)}
    placeholder = {"id": 0, "name": "things", "supercategory": "none"}
    named = [
        {"id": new_id[category["id"]], "name": category["name"], "supercategory": "things"}
        for category in content["categories"]
    ]
    annotations = [{**one, "category_id": new_id[one["category_id"]]} for one in content["annotations"]]
    place = folder / ROBOFLOW_FOLDER.get(split, split)
    _link(content, images, place)
    _write_json(
        place / "_annotations.coco.json", {**content, "annotations": annotations, "categories": [placeholder, *named]}
    )


def write_yolo(folder: Path, split: str, content: dict[str, Any], images: Path, digits: int | None = None) -> None:
    """digits: of the coordinates; None writes all of them, so that the polygons come back as they were."""
    index = {category["id"]: number for number, category in enumerate(content["categories"])}
    lines = defaultdict(list)
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for one in content["annotations"]:
        size = sizes[one["image_id"]]
        normalised = [value / size[place % 2] for place, value in enumerate(one["segmentation"][0])]
        words = [repr(value) if digits is None else f"{value:.{digits}f}" for value in normalised]
        lines[one["image_id"]].append(" ".join((str(index[one["category_id"]]), *words)))
    labels = folder / "labels" / split
    labels.mkdir(parents=True, exist_ok=True)
    _link(content, images, folder / "images" / split)
    for image in content["images"]:
        if lines[image["id"]]:
            (labels / image["file_name"]).with_suffix(".txt").write_text("\n".join(lines[image["id"]]) + "\n")
    names = {number: category["name"] for number, category in enumerate(content["categories"])}
    description = {"path": ".", "train": "images/train", "val": "images/val", "names": names}
    (folder / "data.yaml").write_text(yaml.safe_dump(description, sort_keys=False))


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _link(content: dict[str, Any], images: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        place = folder / image["file_name"]
        if not place.exists():
            os.symlink((images / image["file_name"]).absolute(), place)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="A COCO data set with train and val.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder for the three.")
@click.option("--config", default="configs/dla_46c.yaml", show_default=True, help="For the printed commands.")
def main(data: Path, output: Path, config: str) -> None:
    """Write a COCO data set in three layouts and print how to train on each."""
    write_three(find_dataset(data), output)
    for layout in ("coco", "roboflow", "yolo"):
        folder = shlex.quote(str(output / layout))
        print(f"centermask train --config {config} --data {folder} --name {layout} --device cpu")


if __name__ == "__main__":
    main()

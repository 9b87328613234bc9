# SPDX-License-Identifier: Apache-2.0
"""Makes data sets of nuclei that are grouped by kind of image: all kinds, or all but one to be tested on.

    python models/nuclei_kinds.py DATASETS datasets/nuclei_all
    python models/nuclei_kinds.py DATASETS datasets/nuclei_no_cytology --without cytology

DATASETS holds `nuclei` (2018 Data Science Bowl, stage 1) and `nuclei_s_bsst265` (S-BSST265), both CC0, as COCO JSON.
With --without, `train` holds no image of that kind and `val` holds nothing else. Else `val` is the Bowl's own random
part and each eighth image of S-BSST265. `kinds.json` beside the annotations tells the kind of each image.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

KINDS = ("fluorescence_small", "fluorescence_large", "purple_tissue", "smears", "cytology", "s_bsst265")
DARK = 100  # mean grey value below which an image is of fluorescence
COLOURLESS = 5  # mean saturation
SMEAR_HUES = (136, 146)  # of OpenCV's 180: redder than haematoxylin on its own ground, bluer than eosin
EVERY = 8  # each eighth image of S-BSST265 is for validation


def kind_of(image: NDArray[np.uint8]) -> str:
    """Tells the kind of an image of the Data Science Bowl from brightness, colour and size."""
    if image.mean() < DARK:
        return "fluorescence_small" if min(image.shape[:2]) <= 260 else "fluorescence_large"
    hue, saturation, _ = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    if saturation.mean() < COLOURLESS:
        return "cytology"
    coloured = hue[saturation > 30]
    low, high = SMEAR_HUES
    return "smears" if coloured.size and low <= np.median(coloured) < high else "purple_tissue"


def split_of(datasets: Path, without: str | None) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """Reads both sets. Returns the images of `train` and `val` with their annotations, and the kind of each by name."""
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "val": []}
    kinds: dict[str, str] = {}
    for source, split in (("nuclei", "train"), ("nuclei", "val"), ("nuclei_s_bsst265", "train")):
        found = sorted((datasets / source).rglob(f"instances_{split}.json"))[0]
        content = json.loads(found.read_bytes())
        for number, image in enumerate(content["images"]):
            file = datasets / source / split / image["file_name"]
            kind = "s_bsst265" if source.endswith("265") else kind_of(cv2.imread(str(file)))
            is_val = (number % EVERY == 0 if kind == "s_bsst265" else split == "val") if without is None else False
            part = "val" if is_val or kind == without else "train"
            name = f"{source}_{file.stem}{file.suffix}"
            kinds[name] = kind
            annotations = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
            parts[part].append({"file": file, "name": name, "image": image, "annotations": annotations})
    return parts, kinds


def write(parts: dict[str, list[dict[str, Any]]], kinds: dict[str, str], output: Path) -> None:
    """Writes COCO JSON, and links to the images."""
    (output / "annotations").mkdir(parents=True)
    for split, entries in parts.items():
        (output / split).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for entry in entries:
            os.symlink(entry["file"].resolve(), output / split / entry["name"])
            images.append(entry["image"] | {"id": len(images) + 1, "file_name": entry["name"]})
            for annotation in entry["annotations"]:
                places = {"id": len(annotations) + 1, "image_id": len(images), "category_id": 1}
                annotations.append(annotation | places)
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "nucleus"}]}
        (output / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
        counts = Counter(kinds[entry["name"]] for entry in entries)
        print(f"{split}: {len(images)} images, {len(annotations)} nuclei: {dict(counts)}")
    (output / "annotations" / "kinds.json").write_text(json.dumps(kinds, indent=1), encoding="utf-8")


@click.command(help=__doc__)
@click.argument("datasets", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--without", type=click.Choice(KINDS), help="The kind that is left out of train and is all of val.")
def main(datasets: Path, output: Path, without: str | None) -> None:
    write(*split_of(datasets, without), output)


if __name__ == "__main__":
    main()

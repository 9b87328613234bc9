# SPDX-License-Identifier: Apache-2.0
"""A sound data set of real images (the nuclei as polygons) for tests to spoil, and what the doctor finds in it."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO

from benchmarks.three_layouts import write_coco
from centermask.data.doctor.examine import examine
from centermask.data.formats.layouts import recognise
from tests.support.nuclei_polygons import polygon_content

Content = dict[str, Any]


@functools.cache
def sound_contents() -> dict[str, tuple[Content, Path]]:
    """Split -> content of the annotation file and folder of the images; not to be changed."""
    return {split: polygon_content(split, 3, 25) for split in ("train", "val")}


def write_sound(folder: Path) -> Content:
    """A data set to spoil, with copies of its images; returns the content of its training split."""
    for split, (content, images) in sound_contents().items():
        write_coco(folder, split, content, images)
        for link in (folder / split).iterdir():
            original = link.resolve()
            link.unlink()
            shutil.copy(original, link)
    return copy.deepcopy(sound_contents()["train"][0])


def found(folder: Path) -> dict[str, tuple[int, list[str]]]:
    """Kind -> count and examples, hints about rare classes aside."""
    return {one.kind: (one.count, one.examples) for one in examine(recognise(folder)).findings}


def first_image(folder: Path) -> Path:
    return sorted((folder / "train").iterdir())[0]


def refuses(call: Callable[[], Any]) -> bool:
    try:
        call()
    except Exception:  # pycocotools raises whatever C or NumPy does
        return True
    return False


def truth(folder: Path) -> COCO:
    """The training split as pycocotools reads it."""
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(folder / "annotations" / "instances_train.json")


def entry(content: Content, **changes: Any) -> None:
    """Changes the first annotation."""
    content["annotations"][0].update(changes)


def shape_of(content: Content) -> list[int]:
    """Height and width of the first annotation's image."""
    image = next(one for one in content["images"] if one["id"] == content["annotations"][0]["image_id"])
    return [image["height"], image["width"]]

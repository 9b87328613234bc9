# SPDX-License-Identifier: Apache-2.0
"""The image files of one split: there, whole, of the annotated size, upright; and what tells equal ones apart.

Two readers look at each file: OpenCV, which training uses, and Pillow, which notices a file that is cut short.
"""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from centermask.data.checks import check_presence, check_size, place_of
from centermask.data.doctor.entries import SplitEntries
from centermask.data.doctor.findings import Findings
from centermask_runtime.errors import DataError
from centermask_runtime.images import read_image
from centermask_runtime.progress import Progress

THUMBNAIL = 32  # pixels per side, of which the perceptual hash is taken
_ORIENTATION = 0x0112  # EXIF tag


@dataclass(frozen=True)
class Print:
    """What an image file is recognised by."""

    where: str
    content: bytes  # hash of the file
    thumbnail: NDArray[np.uint8]  # grey, [THUMBNAIL, THUMBNAIL]


@dataclass(frozen=True)
class Facts:
    """What one file is: a finding that ends its examination, or its size, turn and print."""

    failure: str | None = None
    size_wh: tuple[int, int] = (0, 0)
    orientation: int = 1
    content: bytes = b""
    thumbnail: NDArray[np.uint8] | None = None


def examine_files(split: SplitEntries, images: Path, findings: Findings, progress: Progress) -> list[Print]:
    """Reads every image of a split and returns the prints of those that can be read, in the order of the entries."""
    prints: list[Print] = []
    on_fault = findings.of_split(split.name)
    paths = check_presence(split.entries.images, images, on_fault)
    ids = list(paths)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        facts = pool.map(facts_of, paths.values())
        for index, fact in zip(progress(iter(range(len(ids))), len(ids), f"{split.name} images"), facts, strict=True):
            where, image = split.where(ids[index]), split.entries.images[ids[index]]
            if fact.failure is not None:
                findings.add(fact.failure, where)
                continue
            found_hw, given_hw = (fact.size_wh[1], fact.size_wh[0]), (image["height"], image["width"])
            turned = ", which EXIF turns," if fact.orientation >= 5 and fact.size_wh == given_hw else ""
            check_size(f"{place_of(image)}{turned}", found_hw, given_hw, on_fault)
            if fact.orientation != 1:
                findings.add("exif-rotation", f"{where}: orientation {fact.orientation}")
            assert fact.thumbnail is not None
            prints.append(Print(where, fact.content, fact.thumbnail))
    return prints


def facts_of(path: Path) -> Facts:
    """Reads one image file with both readers."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Facts("missing-image")
    except OSError:
        return Facts("unreadable-image")
    try:
        picture = Image.open(io.BytesIO(content))  # the header alone
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return Facts("unreadable-image")
    try:
        size_wh = picture.size
        orientation = int(picture.getexif().get(_ORIENTATION, 1))
        picture.draft("L", (4 * THUMBNAIL, 4 * THUMBNAIL))  # a JPEG at an eighth of its size: quick, and all of it
        grey = np.asarray(picture.convert("L"), np.uint8)
        read_image(path, exif=False)
    except (OSError, SyntaxError, ValueError, DataError):
        return Facts("truncated-image")
    thumbnail = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    hashed = hashlib.sha256(content).digest()
    return Facts(None, size_wh, orientation, hashed, np.asarray(thumbnail, np.uint8))

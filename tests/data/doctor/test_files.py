# SPDX-License-Identifier: Apache-2.0
"""The doctor names each fault planted in an image file."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import pytest

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from tests.support.sound_data import first_image, found, refuses


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def turn_by_exif(path: Path) -> None:
    """Stores the same pixels as a JPEG under the same name, with orientation 6."""
    jpeg = cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes()
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x0112, 3, 1, 6, 0)
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])


def enlarge(path: Path) -> None:
    image = cv2.imread(str(path))
    cv2.imwrite(str(path), cv2.resize(image, (image.shape[1] + 8, image.shape[0])))


def leak(path: Path) -> None:
    other = sorted((path.parents[1] / "val").iterdir())[0]
    other.write_bytes(path.read_bytes())


def leak_again_as_jpeg(path: Path) -> None:
    other = sorted((path.parents[1] / "val").iterdir())[0]
    other.write_bytes(cv2.imencode(".jpg", cv2.imread(str(path)), [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes())


@pytest.mark.parametrize(
    ("kind", "spoil", "refused"),
    [
        ("missing-image", Path.unlink, True),
        ("unreadable-image", lambda path: path.write_text("not an image"), True),
        ("unreadable-image", lambda path: path.write_bytes(b""), True),
        ("truncated-image", cut_short, True),
        ("size-mismatch", enlarge, True),
        ("exif-rotation", turn_by_exif, False),
        ("leakage", leak, None),
        ("near-duplicate", leak_again_as_jpeg, None),
    ],
)
def test_a_fault_in_a_file_is_named(sound, kind, spoil, refused):
    folder, _ = sound
    path = first_image(folder)
    spoil(path)
    findings = found(folder)
    consequences = {"size-mismatch"} if kind in ("leakage", "near-duplicate") else set()
    assert kind in findings and set(findings) - {kind} <= consequences, findings
    assert findings[kind][0] == 1 and path.name in findings[kind][1][0]
    if refused is not None:
        assert refused == refuses(lambda: load_dataset(find_split(folder, "train")).image(0))


def test_a_jpeg_that_is_cut_short_is_named(sound):
    folder, _ = sound
    path = first_image(folder)
    jpeg = cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes()
    for length, kinds in ((len(jpeg), set()), (len(jpeg) - 40, {"truncated-image"}), (700, {"truncated-image"})):
        path.write_bytes(jpeg[:length])
        assert set(found(folder)) == kinds

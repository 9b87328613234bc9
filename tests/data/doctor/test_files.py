# SPDX-License-Identifier: Apache-2.0
"""The doctor names each fault planted in an image file or in YOLO labels, and files that are in a data set twice."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import pytest

from benchmarks.three_layouts import write_yolo
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from tests.support.sound_data import Content, first_image, found, refuses, sound_contents, write_sound


@pytest.fixture
def contents() -> dict[str, tuple[Content, Path]]:
    return sound_contents()


@pytest.fixture
def sound(tmp_path) -> tuple[Path, Content]:
    return tmp_path, write_sound(tmp_path)


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


def test_equal_files_in_one_split_are_named(sound):
    folder, _ = sound
    one, other = sorted((folder / "val").iterdir())[:2]
    other.write_bytes(one.read_bytes())
    findings = found(folder)
    assert findings["duplicate-image"][0] == 1 and "leakage" not in findings
    assert one.name in findings["duplicate-image"][1][0] and other.name in findings["duplicate-image"][1][0]


def test_different_real_images_are_no_near_duplicates(shared_data):
    images = sorted((shared_data / "coco" / "val2017").iterdir())[:40]
    from centermask.data.doctor.files import Print, _facts_of
    from centermask.data.doctor.splits import _near

    prints = [Print(path.name, b"", _facts_of(path).thumbnail) for path in images]
    assert _near(prints[:20], prints[20:]) == []
    assert [(one.where, other.where) for one, other in _near(prints, prints)] == [(p.where, p.where) for p in prints]


def test_faults_of_yolo_labels_are_all_named_with_their_lines(contents, tmp_path):
    for split, (content, images) in contents.items():
        write_yolo(tmp_path, split, content, images)
    assert found(tmp_path) == {}
    labels = sorted((tmp_path / "labels" / "train").iterdir())[0]
    lines = labels.read_text().splitlines()
    lines += ["0 .5 .5 .2 .2", "0 .5 .5 .2 .2", "7 .1 .1 .5 .1 .5 .5", "0 .1 .1", lines[0]]
    lines += ["0 .1 .1 .4 .4 .4 .1 .1 .4"]
    labels.write_text("\n".join(lines))
    findings = found(tmp_path)
    assert {kind: count for kind, (count, _) in findings.items()} == {
        "box-only": 2, "bad-label-line": 2, "duplicate-object": 1, "self-crossing-polygon": 1,
    }  # fmt: skip
    assert f"{labels.name} line {len(lines) - 5}" in findings["box-only"][1][0]
    assert f"{labels.name} line {len(lines)}" in findings["self-crossing-polygon"][1][0]

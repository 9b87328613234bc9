# SPDX-License-Identifier: Apache-2.0
"""What an image is: files, PIL images and arrays, and what is said about the others."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from centermask_runtime.errors import CenterMaskError, DataError
from centermask_runtime.image_kinds import is_image_file, kind_of, kind_of_file
from centermask_runtime.images import (
    check_frame,
    frame_of,
    picture_path,
    read_image,
    write_picture,
)
from centermask_runtime.value_range import ValueRange
from tests.support.places import ROOT
from tests.support.small_pictures import picture, write_video


def test_a_damaged_image_gives_one_sentence_and_no_lines_of_opencv(tmp_path, capfd):
    cv2.imwrite(str(tmp_path / "a.png"), picture(0))
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "c.tif").write_bytes(b"II*\0" + bytes(20))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(DataError, match=path.name):
            read_image(path)
    assert capfd.readouterr() == ("", "")


def test_grey_deep_and_transparent_images_become_bgr(tmp_path):
    images = {
        "grey": np.full((5, 6), 77, np.uint8),
        "deep": np.full((5, 6, 3), 77 * 257, np.uint16),
        "alpha": np.full((5, 6, 4), 77, np.uint8),
    }
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        found = read_image(tmp_path / f"{name}.png")
        assert found.dtype == np.uint8 and (found == np.full((5, 6, 3), 77)).all(), name


def test_exif_turns_what_people_look_at_and_not_data_sets(tmp_path):
    """Orientation 6, shown turned 90 degrees clockwise: the bright upper left corner goes to the upper right."""
    jpeg = cv2.imencode(".jpg", picture(0))[1].tobytes()
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    segment = b"Exif\x00\x00" + tiff
    path = tmp_path / "phone.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:])
    shown, stored = read_image(path), read_image(path, exif=False)
    assert stored.shape == (48, 64, 3) and stored[:8, :12].min() > 230
    assert shown.shape == (64, 48, 3) and shown[:8, -8:].min() > 230
    with Image.open(path) as opened:
        assert np.abs(frame_of(opened).astype(int) - shown).max() <= 2, "Pillow and OpenCV decode JPEG alike"


def test_a_missing_image_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.png cannot be read"):
        read_image(tmp_path / "none.png")


def test_the_content_says_what_an_image_is_and_the_name_only_where_it_is_unknown(tmp_path):
    for suffix in (".png", ".jpg", ".bmp", ".webp"):
        path = tmp_path / f"called_{suffix[1:]}.txt"
        path.write_bytes(cv2.imencode(suffix, picture(0))[1].tobytes())
        assert is_image_file(path), suffix
    (tmp_path / "damaged.png").write_bytes(b"")
    assert is_image_file(tmp_path / "damaged.png")
    assert not is_image_file(write_video(tmp_path / "v.png", count=1))
    (tmp_path / "notes.txt").write_text("BMW and other cars")
    assert not is_image_file(tmp_path / "notes.txt") and not is_image_file(tmp_path / "none.txt")
    assert kind_of(b"GIF89a" + bytes(10)) == "video" and kind_of(b"II*\0\x10\0\0\0CR\2\0") is None


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
def test_pil_images_become_bgr(mode):
    """Equal to what Pillow itself shows in RGB; 16 bits keep their upper 8, as read_image does."""
    rgb = Image.fromarray(np.ascontiguousarray(picture(3)[:, :, ::-1]))
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 5), 77 * 256 + 9, np.uint16))
        expected = np.full((4, 5, 3), 77, np.uint8)
    else:
        image = rgb.convert(mode)
        expected = np.asarray(image.convert("RGB"))[:, :, ::-1]
    found = frame_of(image)
    check_frame(found)
    np.testing.assert_array_equal(found, expected)


def test_pil_images_with_no_known_range_are_refused():
    for mode in ("I", "F"):
        with pytest.raises(DataError, match=f"mode {mode} has no range .* convert it to mode L or RGB"):
            frame_of(Image.new(mode, (4, 5)))


def test_a_pil_image_is_the_same_frame_as_its_file(tmp_path):
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)).save(content, "png")
    (tmp_path / "a.png").write_bytes(content.getvalue())
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(frame_of(opened), read_image(tmp_path / "a.png"))


WHAT_TO_DO = [
    (np.zeros((4, 5), np.uint8), "COLOR_GRAY2BGR"),
    (np.zeros((4, 5, 1), np.uint8), "COLOR_GRAY2BGR"),
    (np.zeros((4, 5, 4), np.uint8), "COLOR_BGRA2BGR"),
    (np.zeros((4, 5, 3), np.uint16), ">> 8"),
    (np.zeros((4, 5, 3), np.float32), "\\* 255"),
    (np.zeros((4, 5, 3), np.float64), "\\* 255"),
    (np.zeros((4, 5, 3), np.int64), "to 0 to 255"),
    (np.zeros((4, 5, 3), bool), "\\* 255"),
    (np.zeros((3, 40, 50), np.uint8), "transpose"),
    (np.zeros((2, 4, 5, 3), np.uint8), "one by one"),
    (np.zeros((0, 5, 3), np.uint8), "no pixels"),
    (np.zeros(5, np.uint8), "convert it before the call"),
]


@pytest.mark.parametrize(("array", "advice"), WHAT_TO_DO, ids=lambda v: str(getattr(v, "shape", "")))
def test_what_is_no_frame_gets_one_sentence_of_what_to_do(array, advice):
    with pytest.raises(DataError, match=advice) as caught:
        check_frame(array)
    sentence = str(caught.value)
    assert f"{array.dtype} {list(array.shape)}" in sentence and sentence.endswith(".") and "\n" not in sentence


def test_what_is_no_array_is_named():
    for other, name in (([1, 2], "list"), ("a.png", "str"), (None, "NoneType")):
        with pytest.raises(DataError, match=f"not {name}"):
            check_frame(other)


def test_any_memory_layout_is_a_frame():
    image = picture(0)
    image.flags.writeable = False
    for array in (image, image[:, :, ::-1], image[::-1, ::2], np.asfortranarray(image), image.transpose(1, 0, 2)):
        check_frame(array)
        assert frame_of(array) is array


def test_only_png_and_jpeg_are_written():
    names = ["a.png", "a.JPG", "a.jpeg", "a.bmp", "a", "x/a.tif"]
    assert [str(picture_path(Path(name))) for name in names] == [
        "a.png", "a.JPG", "a.jpeg", "a.bmp.png", "a.png", str(Path("x/a.tif.png")),
    ]  # fmt: skip


def test_a_picture_is_written_whole_and_its_path_is_given_back(tmp_path):
    assert write_picture(tmp_path / "deep" / "a.bmp", picture(0)) == tmp_path / "deep" / "a.bmp.png"
    np.testing.assert_array_equal(read_image(tmp_path / "deep" / "a.bmp.png"), picture(0))
    with pytest.raises(CenterMaskError, match=r"70000 x 4 cannot be encoded"):
        write_picture(tmp_path / "wide.jpg", np.zeros((4, 70_000, 3), np.uint8))


def test_a_frame_of_another_size_than_the_instances_is_named():
    check_frame(picture(0), (48, 64))
    with pytest.raises(DataError, match="of a frame of 64 x 40, and one of 64 x 48 was given: give the frame"):
        check_frame(picture(0), (40, 64))


def test_a_truncated_and_a_closed_pil_image_are_data_errors(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(DataError, match="PIL image cannot be read"):
        frame_of(cut)
    closed = Image.open(tmp_path / "a.png")
    closed.close()
    with pytest.raises(DataError, match="PIL image cannot be read"):
        frame_of(closed)
    with pytest.raises(DataError, match="has no pixels"):
        frame_of(Image.new("RGB", (0, 5)))


def deep(path, image):
    cv2.imwrite(str(path), image)
    return path


RAMP = np.linspace(0, 4095, 64 * 48).astype(np.uint16).reshape(48, 64)  # 12 bits, as cameras write into 16
TWELVE = ValueRange(0, 4095)


def test_a_range_brings_twelve_bits_to_all_of_eight(tmp_path):
    for name, image in (("grey.png", RAMP), ("bgr.tif", np.stack([RAMP] * 3, -1))):
        path = deep(tmp_path / name, image)
        assert read_image(path).max() <= 16, "without a range the lower 8 bits are dropped"
        np.testing.assert_array_equal(read_image(path, values=TWELVE)[:, :, 1], np.rint(RAMP * (255 / 4095)))
    with Image.fromarray(RAMP) as opened:
        np.testing.assert_array_equal(frame_of(opened, TWELVE), read_image(tmp_path / "grey.png", values=TWELVE))
    np.testing.assert_array_equal(frame_of(np.stack([RAMP] * 3, -1), TWELVE), read_image(path, values=TWELVE))
    eight = deep(tmp_path / "eight.png", picture(3))
    np.testing.assert_array_equal(read_image(eight, values=TWELVE), picture(3))


def test_floats_need_a_range_and_a_sentence_says_so(tmp_path):
    grey = (RAMP / 4095).astype(np.float32)
    for name, image in (("grey.tif", grey), ("bgr.tif", np.stack([grey] * 3, -1))):
        path = deep(tmp_path / name, image)
        with pytest.raises(DataError, match=r"holds values of float32, and the model has no range"):
            read_image(path)
        np.testing.assert_array_equal(read_image(path, values=ValueRange(0, 1))[:, :, 2], np.rint(grey * 255))
        assert len(np.unique(read_image(path, values=ValueRange(1, 99, percentiles=True)))) > 200


@pytest.mark.parametrize("suffix", [".avif", ".jfif", ".gif", ".jp2"])
def test_other_kinds_are_images_whatever_they_are_called(tmp_path, suffix):
    form = {".avif": "AVIF", ".jfif": "JPEG", ".gif": "GIF", ".jp2": "JPEG2000"}[suffix]
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture(3)[:, :, ::-1]).save(path, form)
    for named in (path, path.rename(tmp_path / "unnamed")):
        assert is_image_file(named) or named == path
    assert np.abs(read_image(tmp_path / "unnamed").astype(int) - picture(3)).mean() < 4


def test_a_heic_picture_is_read_or_a_sentence_says_how(monkeypatch):
    path = ROOT / "tests" / "assets" / "phone.heic"
    assert is_image_file(path)
    image = read_image(path)
    assert image.shape == (48, 64, 3) and np.abs(image[40, 40].astype(int) - (20, 60, 200)).max() < 8
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(DataError, match=r"phone\.heic is a HEIC image, .*: pip install 'centermask\[heif\]' reads it"):
        read_image(path)


def test_a_gif_of_several_pictures_is_a_video(tmp_path):
    pictures = [Image.fromarray(picture(index)) for index in range(3)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    pictures[0].save(tmp_path / "b.gif")
    assert kind_of_file(tmp_path / "a.gif") == "video" and kind_of_file(tmp_path / "b.gif") == "image"

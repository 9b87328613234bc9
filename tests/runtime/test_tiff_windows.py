# SPDX-License-Identifier: Apache-2.0
"""Windows of TIFFs of many kinds are what OpenCV reads of the whole; what is damaged or lies is one sentence."""

from __future__ import annotations

import struct
import sys

import cv2
import numpy as np
import pytest
import tifffile

from centermask_runtime import tiff_windows
from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.images import read_image
from centermask_runtime.tiff_windows import TiffWindows, open_if_large
from centermask_runtime.value_range import ValueRange

SMOOTH = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (500, 370, 3), dtype=np.uint8), (9, 9), 3)
RECTS = ((0, 0, 370, 500), (3, 5, 300, 261), (120, 250, 370, 500), (369, 499, 370, 500), (0, 0, 1, 1))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "slide.tif"


@pytest.mark.parametrize(
    "kind",
    [
        {"tile": (256, 256)},
        {"tile": (64, 128), "bigtiff": True},
        {"tile": (256, 256), "compression": "zlib", "predictor": True},
        {"tile": (128, 128), "compression": "jpeg"},
        {"rowsperstrip": 7},
        {"rowsperstrip": 16, "compression": "lzw"},
        {"rowsperstrip": 500, "compression": "zlib"},
        {},
        {"byteorder": ">"},
    ],
    ids=str,
)
def test_a_window_is_that_part_of_the_whole(path, kind):
    tifffile.imwrite(path, SMOOTH, photometric="rgb", **kind)
    whole = read_image(path)
    with TiffWindows(path) as image:
        assert image.frame_hw == (500, 370)
        for x0, y0, x1, y1 in RECTS:
            np.testing.assert_array_equal(image.window((x0, y0, x1, y1)), whole[y0:y1, x0:x1])


def written(path, pixels, **kind):
    tifffile.imwrite(path, pixels, **kind)
    return TiffWindows(path)


def test_grey_white_on_black_bits_planes_and_transparency_become_bgr(path):
    grey, bgr = SMOOTH[:, :, 0], SMOOTH[:, :, ::-1]
    whole = RECTS[0]
    for pixels, kind, expected in (
        (grey, {"photometric": "minisblack", "tile": (128, 128)}, np.dstack([grey] * 3)),
        (grey, {"photometric": "miniswhite"}, np.dstack([255 - grey] * 3)),
        (grey > 128, {"photometric": "minisblack"}, np.dstack([(grey > 128) * np.uint8(255)] * 3)),
        (np.moveaxis(SMOOTH, 2, 0), {"photometric": "rgb", "planarconfig": "separate", "tile": (128, 128)}, bgr),
        (np.moveaxis(SMOOTH, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}, bgr),
        (np.dstack((SMOOTH, grey)), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, bgr),
        (grey.astype(np.uint16) * 200, {"byteorder": ">"}, np.dstack([(grey.astype(np.uint16) * 200 >> 8)] * 3)),
        (grey.astype(np.uint16) * 200, {"tile": (64, 64)}, np.dstack([(grey.astype(np.uint16) * 200 >> 8)] * 3)),
    ):
        with written(path, pixels, **kind) as image:
            np.testing.assert_array_equal(image.window(whole), expected)


def test_blocks_that_were_left_out_are_black(path):
    with tifffile.TiffWriter(path) as writer:
        blocks = (np.full((64, 64), 9, np.uint8) if number != 1 else None for number in range(4))
        writer.write(blocks, shape=(128, 128), dtype=np.uint8, tile=(64, 64), photometric="minisblack")
    with TiffWindows(path) as image:
        found = image.window((0, 0, 128, 128))
    assert (found[:64, 64:] == 0).all() and (found[64:] == 9).all() and (found[:64, :64] == 9).all()


def test_a_pass_from_the_top_decodes_each_block_once_and_keeps_few(path, monkeypatch):
    with written(path, SMOOTH, photometric="rgb", tile=(64, 64), compression="zlib") as image:
        decoded = []
        decode = image._decode
        monkeypatch.setattr(image, "_decode", lambda index: decoded.append(index) or decode(index))
        most = 0
        for top in range(0, 500, 50):
            for left in range(0, 370, 50):
                image.window((left, top, min(left + 60, 370), min(top + 60, 500)))
                most = max(most, image._kept_bytes)
        assert sorted(decoded) == list(range(8 * 6))
        assert most <= 3 * 6 * 64 * 64 * 3  # three rows of blocks, of eight


def test_decoded_blocks_are_kept_up_to_a_limit(path, monkeypatch):
    monkeypatch.setattr(tiff_windows, "MOST_KEPT", 5 * 64 * 64 * 3)
    with written(path, SMOOTH, photometric="rgb", tile=(64, 64), compression="zlib") as image:
        np.testing.assert_array_equal(image.window(RECTS[0]), read_image(path))
        assert image._kept_bytes == sum(block.nbytes for _, _, block in image._kept.values()) <= 5 * 64 * 64 * 3


def test_only_large_tiffs_are_opened_whatever_their_names(path, tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_windows, "LARGE", 500 * 370)
    tifffile.imwrite(path, SMOOTH, photometric="rgb")
    renamed = path.rename(tmp_path / "slide.png")
    with open_if_large(renamed) as image:
        assert image.frame_hw == (500, 370)
    monkeypatch.setattr(tiff_windows, "LARGE", 500 * 370 + 1)
    assert open_if_large(renamed) is None
    cv2.imwrite(str(tmp_path / "large.png"), SMOOTH)
    assert open_if_large(tmp_path / "large.png") is None
    tifffile.imwrite(path, np.stack([SMOOTH] * 2), photometric="rgb")  # a stack: its pages are frames
    monkeypatch.setattr(tiff_windows, "LARGE", 1)
    assert open_if_large(path) is None
    assert open_if_large(tmp_path / "missing.tif") is None and open_if_large(tmp_path) is None


def test_without_tifffile_a_tiff_is_an_image_as_others_but_bigtiff_says_what_to_install(path, monkeypatch):
    monkeypatch.setattr(tiff_windows, "LARGE", 1)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    path.write_bytes(b"II*\0")
    assert open_if_large(path) is None
    path.write_bytes(b"II+\0")
    with pytest.raises(UsageError, match=r"tifffile is needed for reading the BigTIFF .*: pip install 'centermask\[ti"):
        open_if_large(path)


def test_a_range_of_values_decides_about_more_than_8_bits_and_percentiles_need_the_whole(path):
    deep = SMOOTH[:, :, 0].astype(np.uint16) * 16
    with written(path, deep, tile=(64, 64)) as image:
        image.values = ValueRange(0, 4095)
        np.testing.assert_array_equal(image.window((0, 0, 90, 80)), read_image(path, values=image.values)[:80, :90])
        image.values = ValueRange(1, 99, percentiles=True)
        with pytest.raises(DataError, match="values of uint16, and the model has only percentiles of a whole image"):
            image.window((0, 0, 90, 80))


# ---- bad input ------------------------------------------------------------------------------------------------------


def refusal(path):
    """The sentence; the file is closed after it."""
    with pytest.raises(DataError) as raised, TiffWindows(path) as image:
        for top in range(0, image.frame_hw[0], 100):
            image.window((0, top, image.frame_hw[1], min(top + 100, image.frame_hw[0])))
    sentence = str(raised.value)
    assert str(path) in sentence and sentence.endswith(".") and "\n" not in sentence
    path.unlink()
    return sentence


@pytest.mark.parametrize("kind", [{"tile": (64, 64)}, {"rowsperstrip": 8, "compression": "zlib"}, {}], ids=str)
def test_a_file_that_is_cut_off_is_refused_before_any_work(path, kind):
    for keep in (0.95, 0.5):
        tifffile.imwrite(path, np.random.default_rng(0).integers(0, 256, (500, 370), np.uint8), **kind)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])
        assert "is cut off: it needs" in refusal(path)


def test_a_header_that_lies_is_refused_before_any_memory_is_taken(path):
    def lie(tag, value):
        tifffile.imwrite(path, SMOOTH, photometric="rgb", tile=(64, 64))
        with tifffile.TiffFile(path) as file:
            place = file.pages.first.tags[tag].valueoffset
            size = {3: "<H", 4: "<I"}[file.pages.first.tags[tag].dtype.value]
        content = bytearray(path.read_bytes())
        struct.pack_into(size, content, place, value)
        path.write_bytes(content)

    lie("ImageWidth", 60_000)
    assert "of 60000 x 500 pixels would have 7504 blocks, and its header names 48" in refusal(path)
    lie("ImageLength", 0)
    assert "says that it has 370 x 0 pixels" in refusal(path)
    lie("TileWidth", 32)
    assert "would have 96 blocks, and its header names 48" in refusal(path)
    lie("TileWidth", 65_520)
    assert "is damaged in block 0" in refusal(path)


def test_one_compressed_block_too_large_for_the_memory_says_how_to_write_tiles(path, monkeypatch):
    monkeypatch.setattr(tiff_windows, "LARGEST_BLOCK", 500 * 370)
    tifffile.imwrite(path, SMOOTH, photometric="rgb", rowsperstrip=500, compression="zlib")
    assert "write it in tiles, such as by `vips tiffsave" in refusal(path)
    tifffile.imwrite(path, SMOOTH, photometric="rgb", rowsperstrip=500)  # without compression its rows can be read
    with TiffWindows(path) as image:
        np.testing.assert_array_equal(image.window(RECTS[1]), read_image(path)[5:261, 3:300])


def test_damage_inside_a_block_is_named_when_it_is_read(path):
    for compression in ("zlib", "jpeg", "lzw"):
        tifffile.imwrite(path, SMOOTH, photometric="rgb", tile=(64, 64), compression=compression)
        with tifffile.TiffFile(path) as file:
            offset, count = file.pages.first.dataoffsets[9], file.pages.first.databytecounts[9]
        content = bytearray(path.read_bytes())
        content[offset : offset + count] = b"\xff" * count
        path.write_bytes(content)
        assert "is damaged in block 9 (" in refusal(path)


@pytest.mark.parametrize(
    ("pixels", "kind", "words"),
    [
        (SMOOTH[:, :, 0].astype(np.float32), {}, "values of float32, and the model has no range to say which"),
        (SMOOTH[:, :, 0].astype(np.int16), {}, "values of int16"),
        (np.zeros((50, 60, 5), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}, "5 channels"),
        (np.zeros((50, 60, 4), np.uint8), {"photometric": "separated"}, "the kind SEPARATED: convert it to RGB"),
        (
            np.zeros((50, 60), np.uint8),
            {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)},
            "PALETTE",
        ),
        (np.zeros((50, 60), np.uint8), {"extratags": [(274, 3, 1, 6, True)]}, "a tag that turns it"),
    ],
)
def test_pixels_that_have_no_one_meaning_are_refused(path, pixels, kind, words):
    tifffile.imwrite(path, pixels, **kind)
    assert words in refusal(path)


def test_what_is_no_tiff_at_all_is_refused(path):
    for content in (b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"II+\0" * 9, b"text" * 100):
        path.write_bytes(content)
        assert "The TIFF" in refusal(path)
    with pytest.raises(DataError, match="cannot be opened"):
        TiffWindows(path)

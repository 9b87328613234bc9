# SPDX-License-Identifier: Apache-2.0
"""Several pictures as one: what is in it, and where."""

from __future__ import annotations

import cv2
import numpy as np

from centermask.evaluation.pictures import CAPTION_HEIGHT, GAP, beside, contact_sheet, encode, square_sheet


def test_pictures_of_different_shapes_make_a_grid():
    wide, tall = np.full((40, 200, 3), 200, np.uint8), np.full((300, 100, 3), 90, np.uint8)
    sheet = square_sheet([wide, tall, wide])
    assert (sheet == 200).any() and (sheet == 90).any() and max(sheet.shape) < 700
    back = cv2.imdecode(np.frombuffer(encode(sheet, ".jpg"), np.uint8), cv2.IMREAD_COLOR)
    assert back.shape == sheet.shape


def test_pictures_beside_each_other_keep_their_pixels_under_their_captions():
    dark, bright = np.full((40, 50, 3), 10, np.uint8), np.full((40, 90, 3), 220, np.uint8)
    row = beside((dark, bright, dark), ("a", "b ö", ""))
    assert row.shape == (40 + CAPTION_HEIGHT, 50 + 90 + 50 + 2 * GAP, 3)
    for picture, left in ((dark, 0), (bright, 50 + GAP), (dark, 140 + 2 * GAP)):
        np.testing.assert_array_equal(row[CAPTION_HEIGHT:, left : left + picture.shape[1]], picture)
    strips = row[:CAPTION_HEIGHT, :50], row[:CAPTION_HEIGHT, 50 + GAP : 140 + GAP], row[:CAPTION_HEIGHT, -50:]
    assert [len(np.unique(strip)) > 1 for strip in strips] == [True, True, False], "text, text, none"


def test_a_sheet_fits_each_picture_into_its_cell():
    red, blue = np.full((10, 40, 3), (0, 0, 200), np.uint8), np.full((40, 10, 3), (200, 0, 0), np.uint8)
    sheet = contact_sheet([red, blue], columns=2, cell_hw=(80, 80))
    assert sheet.shape == (80 + 2 * GAP, 2 * 80 + 3 * GAP, 3)
    np.testing.assert_array_equal(sheet[GAP + 30 : GAP + 50, GAP : GAP + 80], np.full((20, 80, 3), (0, 0, 200)))
    right = 2 * GAP + 80 + 30
    np.testing.assert_array_equal(sheet[GAP : GAP + 80, right : right + 20], np.full((80, 20, 3), (200, 0, 0)))

# SPDX-License-Identifier: Apache-2.0
"""A mask in each of COCO's forms is the same run lengths, and the pixels in its tight rectangle."""

from __future__ import annotations

import numpy as np
from pycocotools import mask as coco_mask

from centermask.data.segmentation import as_runs, tight_crop
from tests.support.small_coco import HEIGHT, SQUARE, WIDTH, blob, runs_of

SIZE = [HEIGHT, WIDTH]


def test_the_forms_of_a_mask_have_the_same_pixels():
    compressed = coco_mask.encode(np.asfortranarray(blob().view(np.uint8)))
    forms = (
        compressed,
        {"size": SIZE, "counts": compressed["counts"].decode()},
        {"size": SIZE, "counts": runs_of(blob())},
    )
    for form in forms:
        np.testing.assert_array_equal(coco_mask.decode(as_runs(form, (HEIGHT, WIDTH))).astype(bool), blob())


def test_the_parts_of_an_outline_are_joined_whether_lists_or_arrays():
    """By hand: two squares of 10 x 10 that share a quarter."""
    other = [value + 5 for value in SQUARE]
    for parts in ([SQUARE, other], (np.array(SQUARE), np.array(other))):
        mask = coco_mask.decode(as_runs(parts, (HEIGHT, WIDTH))).astype(bool)
        assert mask.sum() == 100 + 100 - 25 and mask[5:15, 5:15].all() and mask[10:20, 10:20].all()


def test_a_crop_is_tight_and_there_is_none_of_an_empty_mask():
    found = tight_crop(as_runs({"size": SIZE, "counts": runs_of(blob())}, (HEIGHT, WIDTH)))
    assert found is not None
    (x0, y0, x1, y1), crop = found
    assert (x0, y0, x1, y1) == (12, 10, 40, 30) and crop.dtype == np.bool_
    np.testing.assert_array_equal(crop, blob()[y0:y1, x0:x1])
    assert tight_crop(as_runs({"size": SIZE, "counts": [HEIGHT * WIDTH]}, (HEIGHT, WIDTH))) is None

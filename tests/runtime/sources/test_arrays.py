# SPDX-License-Identifier: Apache-2.0
"""Images in memory as a source: arrays, PIL images and paths in any iterable."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

from centermask_runtime.errors import DataError
from centermask_runtime.sources.arrays import ArraySource
from centermask_runtime.sources.source import Frame
from tests.support.small_pictures import picture


def test_images_of_every_kind_come_in_their_order(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(2))
    Image.fromarray(np.ascontiguousarray(picture(3)[:, :, ::-1])).save(tmp_path / "b.png")
    given = Frame(picture(4), "mine", 9, 1.5)
    with (
        Image.open(tmp_path / "b.png") as opened,
        ArraySource([picture(0), Image.fromarray(picture(1)[:, :, ::-1]), tmp_path / "a.png", opened, given]) as source,
    ):
        found = list(source)
    assert source.info.count == 5 and source.info.size_hw is None and source.skipped == []
    assert [frame.name for frame in found] == ["000000", "000001", "a.png", "b.png", "mine"]
    assert [frame.index for frame in found] == [0, 1, 2, 3, 9] and found[4] is given
    for index, frame in enumerate(found):
        np.testing.assert_array_equal(frame.image, picture(index))


def test_an_iterable_without_an_end_is_read_as_it_comes():
    source = ArraySource(picture(index % 5) for index in itertools.count())
    assert source.info.count is None
    assert [frame.index for frame in itertools.islice(source, 1000)] == list(range(1000))


def test_what_is_no_image_is_raised_where_it_comes():
    source = ArraySource([picture(0), picture(0)[:, :, 0]])
    frames = iter(source)
    next(frames)
    with pytest.raises(DataError, match="COLOR_GRAY2BGR"):
        next(frames)

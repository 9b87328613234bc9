# SPDX-License-Identifier: Apache-2.0
"""A label image says of each pixel which object it is of."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from centermask_runtime.errors import DataError
from centermask_runtime.sinks.mask_pictures import MaskSink, label_image
from tests.support.awkward_masks import HW, awkward_masks, frame_called, instances_of


def test_each_pixel_has_the_best_object_that_covers_it(tmp_path):
    masks = awkward_masks()
    with MaskSink(tmp_path) as sink:
        sink.add(frame_called("a.jpg"), instances_of(masks))
    read = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16 and read.shape == HW
    for row, column in np.ndindex(HW):
        covering = np.flatnonzero(masks[:, row, column])
        assert read[row, column] == (covering[0] + 1 if len(covering) else 0)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), read)


def test_with_track_ids_the_numbers_are_those():
    labels = label_image(instances_of(awkward_masks()[:3], ids=np.array([65_535, 300, 7])))
    assert sorted(np.unique(labels).tolist()) == [0, 7, 300, 65_535]


def test_objects_without_a_track_are_left_out():
    masks = awkward_masks()[:3]
    labels = label_image(instances_of(masks, ids=np.array([-1, 300, -1])))
    np.testing.assert_array_equal(labels, np.where(masks[1], 300, 0))


@pytest.mark.parametrize("number", [0, -2, 65_536])
def test_a_number_that_does_not_fit_is_one_sentence(number):
    with pytest.raises(DataError, match=f"An object has the number {number}, and a mask picture holds 1 to 65535"):
        label_image(instances_of(awkward_masks()[:1], ids=np.array([number])))


def test_no_objects_are_all_zero():
    assert not label_image(instances_of([])).any()

# SPDX-License-Identifier: Apache-2.0
"""Each object becomes a picture of itself, in the folder of its class."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from centermask_runtime.sinks.cutouts import CutoutSink, folder_name
from tests.support.awkward_masks import awkward_masks, frame_called, instances_of
from tests.support.small_pictures import names_in


def test_a_cutout_has_the_frames_pixels_and_the_mask_as_alpha(tmp_path):
    frame, instances = frame_called("day/a.jpg"), instances_of(awkward_masks())
    with CutoutSink(tmp_path) as sink:
        sink.add(frame, instances)
    assert names_in(tmp_path) == ["cat", "dog_cat", "traffic light"]
    assert names_in(tmp_path / "cat" / "day") == ["a_001.png", "a_004.png", "a_007.png"]
    for place in range(len(instances) - 1):
        folder = folder_name(instances.names[place])
        read = cv2.imread(str(tmp_path / folder / "day" / f"a_{place + 1:03d}.png"), cv2.IMREAD_UNCHANGED)
        x0, y0, x1, y1 = instances.masks.rects[place].tolist()
        np.testing.assert_array_equal(read[:, :, :3], frame.image[y0:y1, x0:x1])
        np.testing.assert_array_equal(read[:, :, 3] == 255, instances.masks.crop(place))


@pytest.mark.parametrize(
    ("name", "folder"), [("cat", "cat"), ("../up", "_up"), ("a:b", "a_b"), ("..", "_"), ("", "_"), ("Zähler", "Zähler")]
)
def test_a_class_is_a_folder_whatever_its_name(name, folder):
    assert folder_name(name) == folder

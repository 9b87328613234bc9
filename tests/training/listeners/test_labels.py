# SPDX-License-Identifier: Apache-2.0
"""labels.jpg: boxes in network pixels, and a picture of a set without objects."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from centermask.training.listeners.labels import draw_labels, network_boxes


def test_boxes_of_labels_are_in_network_pixels(dataset):
    """80 x 100 in 160 x 160: scale 1.6."""
    boxes = network_boxes(dataset, (160, 160))
    one = dataset.objects(0)[0]
    x0, y0, x1, y1 = one.rect
    np.testing.assert_allclose(boxes[0], [(x0 + x1) / 200, (y0 + y1) / 160, (x1 - x0) * 1.6, (y1 - y0) * 1.6])
    assert len(boxes) == sum(len(dataset.objects(index)) for index in range(len(dataset)))


def test_a_set_without_objects_has_the_diagrams_of_others_but_empty(dataset, tmp_path):
    bare = dataclasses.replace(dataset, annotations=((),) * len(dataset))
    pictures = []
    for name, one in (("full", dataset), ("bare", bare)):
        draw_labels(one, tmp_path / f"{name}.jpg", (64, 64))
        pictures.append(cv2.imread(str(tmp_path / f"{name}.jpg")).astype(int))
    full, empty = pictures
    assert empty.shape == full.shape and empty.std() > 5  # axes and titles
    left = full.shape[1] // 2  # objects per class, above where they lie
    coloured = [int((np.ptp(picture[:, :left], axis=2) > 60).sum()) for picture in pictures]
    assert coloured[0] > 10_000 and coloured[1] == 0

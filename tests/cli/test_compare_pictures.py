# SPDX-License-Identifier: Apache-2.0
"""What only one of two artefacts has stands out in their pictures, in the pixels where it is."""

from __future__ import annotations

import numpy as np
import pytest

from centermask.cli.compare_pictures import ONLY_A_BGR, ONLY_B_BGR, side_by_side
from centermask.evaluation.pictures import CAPTION_HEIGHT, GAP
from centermask_runtime.networks.network import PeakOutputs
from tests.support.fixed_networks import boxes_apart, changed, difference


@pytest.fixture
def apart(small_outputs) -> PeakOutputs:
    return boxes_apart(small_outputs)


def test_pictures_show_what_only_one_side_has(small_spec, apart):
    frame = np.full((640, 960, 3), 90, np.uint8)
    full = changed(apart, shapes=np.full_like(apart.shapes, 9), saliency=np.full_like(apart.saliency, 9))
    scores = full.scores.copy()
    scores[0] = np.linspace(0.9, 0.5, 8)
    fewer, shifted = scores.copy(), full.boxes.copy()
    fewer[0, 0] = 0
    shifted[0, 4, [0, 2]] += 2  # two columns of input pixels, twenty of the frame
    a, b = changed(full, scores=scores), changed(full, scores=fewer, boxes=shifted)
    _, (found_a, found_b, found) = difference(small_spec, a, b, frame)
    picture = side_by_side(frame, found_a, found_b, found, ("a.onnx", "b.xml"))
    assert picture.shape == (640 + CAPTION_HEIGHT, 3 * 960 + 2 * GAP, 3)
    panel = picture[CAPTION_HEIGHT:, -960:]
    only_a, only_b = (np.all(panel == colour, axis=2).sum() for colour in (ONLY_A_BGR, ONLY_B_BGR))
    assert (only_a, only_b) == (160 * 160 + 20 * 160, 20 * 160)
    edges = [picture[CAPTION_HEIGHT + 440, start + 35 : start + 45] for start in (0, 960 + GAP)]
    assert not np.array_equal(*edges)  # A's box begins at 40, B's at 60

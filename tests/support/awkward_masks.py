# SPDX-License-Identifier: Apache-2.0
"""Results whose masks are hard to write: several pieces, holes, corners that touch, single pixels, the whole frame."""

from __future__ import annotations

import numpy as np

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.sources.source import Frame

HW = (40, 60)
NAMES, CATEGORY_IDS = ("cat", "dog/cat", "traffic light"), (17, 18, 90)


def awkward_masks(seed=0):
    """Masks bool [N, H, W]; the last has no pixel."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((9, *HW), bool)
    masks[0, 5:15, 5:25] = True
    masks[0, 8:12, 10:20] = False  # a hole
    masks[0, 9:11, 12:15] = True  # an island in it
    masks[1, 20:25, 3:9] = masks[1, 25:30, 9:12] = True  # two pieces that touch at a corner
    masks[1, 2:4, 50:58] = True  # and one far away
    masks[2, 39, 59] = True  # one pixel, in the corner
    masks[3] = True
    masks[4, 17] = True  # a line
    masks[5, 10:30, 30:50] = rng.random((20, 20)) < 0.5  # noise
    masks[6] = np.hypot(*(np.indices(HW) - np.array([20, 30])[:, None, None])) < 15
    masks[7] = np.indices(HW).sum(0) % 2 == 0  # a chessboard
    return masks


def instances_of(masks, ids=None):
    """Instances of whole masks, each in its tight rectangle, of the three classes in turn."""
    n = len(masks)
    rects, crops = np.zeros((n, 4), np.int32), []
    for rect, mask in zip(rects, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows):
            rect[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        crops.append(mask[rect[1] : rect[3], rect[0] : rect[2]])
    return Instances(
        HW, rects.astype(np.float32), np.linspace(0.95, 0.3, n, dtype=np.float32), np.arange(n, dtype=np.int32) % 3,
        BoxMasks.from_crops(HW, rects, crops), NAMES, CATEGORY_IDS, ids,
    )  # fmt: skip


def frame_called(name, index=0, time_s=None):
    """A frame of noise, so that each of its pixels can be told from the others."""
    return Frame(np.random.default_rng(index).integers(0, 255, (*HW, 3), np.uint8), name, index, time_s)

# SPDX-License-Identifier: Apache-2.0
"""Copy-paste: objects of a second image put on top of the first (Simple Copy-Paste, Ghiasi et al., CVPR 2021).

The second image is drawn at its own scale and place; each of its objects is taken with probability one half. What they
cover is gone from the masks and boxes below. Edges are not blended: the paper found that it makes no difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from centermask.config import AugmentConfig
from centermask.data.augment.affine import warp_image
from centermask.data.augment.draw import sample_affine
from centermask.data.augment.scene import Scene, keep_visible, show_objects
from centermask.data.dataset import ObjectMask

TAKEN = 0.5  # probability of each object


def copy_paste(
    rng: np.random.Generator,
    scene: Scene,
    source: tuple[NDArray[np.uint8], Sequence[ObjectMask]],
    input_hw: tuple[int, int],
    config: AugmentConfig,
) -> Scene:
    """Puts objects of `source` on top of a scene; crowds are not taken, nor objects that hardly show."""
    image, annotated = source
    canvas_hw = scene.image.shape[0], scene.image.shape[1]
    affine = sample_affine(rng, (image.shape[0], image.shape[1]), input_hw, canvas_hw, config)
    shown = show_objects(annotated, affine, (0, 0, canvas_hw[1], canvas_hw[0]))
    candidates = [one for one in shown if not one.crowd]
    pasted = [one for one, taken in zip(candidates, rng.random(len(candidates)) < TAKEN, strict=True) if taken]
    if not pasted:
        return scene
    covered = np.zeros(canvas_hw, np.bool_)
    for one in pasted:
        x0, y0, x1, y1 = one.rect
        covered[y0:y1, x0:x1] |= one.crop
    canvas = np.where(covered[..., None], warp_image(image, affine, canvas_hw), scene.image)
    below = [cut for one in scene.objects if (cut := _uncovered(one, covered)) is not None]
    return Scene(canvas, below + pasted)


def _uncovered(one: ObjectMask, covered: NDArray[np.bool_]) -> ObjectMask | None:
    x0, y0, x1, y1 = one.rect
    return keep_visible(one, one.crop & ~covered[y0:y1, x0:x1], float(np.count_nonzero(one.crop)))

# SPDX-License-Identifier: Apache-2.0
"""What the kernels write for one frame, on the host, as Instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.spec import ModelSpec


class Results(NamedTuple):
    """One frame's part of the arrays of results_layout, of the arena and of the run lengths; not owned."""

    arrays: Mapping[str, NDArray[Any]]
    masks: NDArray[np.uint8]  # [mask_bytes]
    runs: NDArray[np.uint32] | None  # [run_total]; None where they were not asked for

    def instances(self, frame_hw: tuple[int, int], spec: ModelSpec) -> Instances:
        """As pipeline.postprocess gives them, in arrays of their own."""
        found = int(self.arrays["found"])
        rects = self.arrays["rects"][:found].copy()
        heights, row_bytes = rects[:, 3] - rects[:, 1], (rects[:, 2] - rects[:, 0] + 7) // 8
        masks = self.masks.copy()
        packed = tuple(
            masks[start : start + height * width].reshape(height, width)
            for start, height, width in zip(
                self.arrays["offsets"][:found].tolist(), heights.tolist(), row_bytes.tolist(), strict=True
            )
        )
        return Instances(
            frame_hw,
            self.arrays["boxes"][:found].copy(),
            self.arrays["scores"][:found].copy(),
            self.arrays["labels"][:found].copy(),
            BoxMasks(frame_hw, rects, packed),
            spec.class_names,
            spec.category_ids,
        )

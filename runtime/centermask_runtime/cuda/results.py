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
        kept = {name: array[:found].copy() for name, array in self.arrays.items() if array.ndim}
        return Instances(
            frame_hw, kept["boxes"], kept["scores"], kept["labels"], self._box_masks(frame_hw, kept), spec.class_names,
            spec.category_ids,
        )  # fmt: skip

    def _box_masks(self, frame_hw: tuple[int, int], kept: Mapping[str, NDArray[Any]]) -> BoxMasks:
        rects = kept["rects"]
        heights, row_bytes = rects[:, 3] - rects[:, 1], (rects[:, 2] - rects[:, 0] + 7) // 8
        shapes = zip(heights.tolist(), row_bytes.tolist(), strict=True)
        bits = _parts(self.masks.copy(), kept["offsets"], heights * row_bytes)
        packed = tuple(mask.reshape(shape) for mask, shape in zip(bits, shapes, strict=True))
        runs = None if self.runs is None else _parts(self.runs.copy(), kept["run_offsets"], kept["run_counts"])
        return BoxMasks(frame_hw, rects, packed, runs)


def _parts(array: NDArray[Any], begins: NDArray[np.integer], lengths: NDArray[np.integer]) -> tuple[NDArray[Any], ...]:
    """One view for each mask."""
    pairs = zip(begins.tolist(), lengths.tolist(), strict=True)
    return tuple(array[begin : begin + length] for begin, length in pairs)

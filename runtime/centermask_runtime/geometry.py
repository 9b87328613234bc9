# SPDX-License-Identifier: Apache-2.0
"""Letterbox: how a frame is fitted into the network input, and the way back. The only place that knows it.

Conventions: a point (x, y) is continuous, pixel (i, j) covers [j, j+1) x [i, i+1) and its centre is at +0.5. Boxes are
xyxy in that frame, so a box of whole pixels has integer edges. The frame keeps its aspect ratio and is centred; the
rest is padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD_VALUE = 114  # grey, as peers use; the network sees it in training too


@dataclass(frozen=True)
class Letterbox:
    frame_hw: tuple[int, int]  # source pixels
    input_hw: tuple[int, int]  # network pixels
    resized_hw: tuple[int, int]  # the frame inside the network input, network pixels
    offset_xy: tuple[int, int]  # left and top padding, network pixels

    @classmethod
    def fit(cls, frame_hw: tuple[int, int], input_hw: tuple[int, int]) -> Letterbox:
        """The largest centred placement of the frame in the input; each side at least one pixel."""
        assert min(frame_hw) > 0 and min(input_hw) > 0, (frame_hw, input_hw)
        scale = min(input_hw[0] / frame_hw[0], input_hw[1] / frame_hw[1])
        height = min(max(round(frame_hw[0] * scale), 1), input_hw[0])
        width = min(max(round(frame_hw[1] * scale), 1), input_hw[1])
        offset = (input_hw[1] - width) // 2, (input_hw[0] - height) // 2
        return cls(frame_hw, input_hw, (height, width), offset)

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Network pixels per source pixel. Both axes, because the resized size is rounded to whole pixels."""
        return self.resized_hw[1] / self.frame_hw[1], self.resized_hw[0] / self.frame_hw[0]

    def to_input(self, points_xy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Source points [..., 2] -> network points [..., 2]."""
        return (np.asarray(points_xy, np.float64) * self.scale_xy + self.offset_xy).astype(np.float32)

    def to_frame(self, points_xy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Network points [..., 2] -> source points [..., 2]: the inverse of to_input."""
        return ((np.asarray(points_xy, np.float64) - self.offset_xy) / self.scale_xy).astype(np.float32)

    def boxes_to_frame(self, boxes_xyxy: NDArray[np.floating]) -> NDArray[np.float32]:
        """Boxes [N, 4] in network pixels -> boxes [N, 4] in source pixels, not clipped."""
        return self.to_frame(np.asarray(boxes_xyxy).reshape(-1, 2, 2)).reshape(-1, 4)


def clip_boxes(boxes_xyxy: NDArray[np.float32], frame_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes [N, 4] cut at the frame's edges."""
    height, width = frame_hw
    return np.clip(boxes_xyxy, 0, np.array([width, height, width, height], np.float32))

# SPDX-License-Identifier: Apache-2.0
"""A frame into the network input: one bilinear resize, centred on a grey canvas.

Pixel centres are at half-integers: input pixel j samples the source at (j + 0.5) / scale - 0.5, clamped to the frame.
Shrinking does not average: what lies between the samples is skipped, as in training and as peers do.
Normalisation and channel order are in the network's graph.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.geometry import PAD_VALUE, Letterbox


def letterbox(frame: NDArray[np.uint8], box: Letterbox, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Frame uint8 [H, W, 3] -> uint8 [input_h, input_w, 3].

    `out`, of the result's shape and contiguous, is overwritten and returned.
    """
    assert frame.shape == (*box.frame_hw, 3) and frame.dtype == np.uint8, (frame.shape, frame.dtype, box)
    if out is None:
        out = np.empty((*box.input_hw, 3), np.uint8)
    assert out.shape == (*box.input_hw, 3) and out.dtype == np.uint8, (out.shape, out.dtype, box)
    height, width = box.resized_hw
    left, top = box.offset_xy
    out[:top] = PAD_VALUE
    out[top + height :] = PAD_VALUE
    out[top : top + height, :left] = PAD_VALUE
    out[top : top + height, left + width :] = PAD_VALUE
    out[top : top + height, left : left + width] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
    return out

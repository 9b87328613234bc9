# SPDX-License-Identifier: Apache-2.0
"""Pictures that tell their number, and videos of them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from centermask_runtime.sinks.video_writer import VideoWriter

SIZE_HW = (48, 64)


def picture(index, size_hw=SIZE_HW):
    """A flat colour that tells the index, with a bright upper left corner."""
    image = np.full((*size_hw, 3), (20 + 8 * index, 60, 200 - 8 * index), np.uint8)
    image[: size_hw[0] // 4, : size_hw[1] // 4] = 250
    return image


def write_video(path, count=12, size_hw=SIZE_HW, fps=Fraction(10)):
    with VideoWriter(path, size_hw, fps) as writer:
        for index in range(count):
            writer.write(picture(index, size_hw))
    return path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())

# SPDX-License-Identifier: Apache-2.0
"""NV12: a frame as hardware decoders and cameras give it, and how it becomes BGR.

Each pixel has a luma sample of its own, and each block of 2 x 2 pixels a pair of chroma samples, Cb first. Values have
the limited range of video: luma 16 is black and 235 is white, chroma 128 is grey. A chroma pair serves its block as it
is, without interpolation, as OpenCV converts it:

    grey  = max(Y - 16, 0) * from_luma
    blue  = grey + cb_to_blue * (Cb - 128)
    green = grey + cr_to_green * (Cr - 128) + cb_to_green * (Cb - 128)
    red   = grey + cr_to_red * (Cr - 128)

in integers, in steps of 2^-20, rounded by adding a half before the shift, and cut to 0 ... 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError

SHIFT = 20  # bits of a step
HALF = 1 << (SHIFT - 1)
BLACK, NEUTRAL = 16, 128


class YuvMatrix(Enum):
    """The weights of luma, Cr to red, Cr to green, Cb to green and Cb to blue, in steps of 2^-20.

    BT601 has OpenCV's integers; BT709 has those of ITU-R BT.709-6, item 3, with the same scaling.
    """

    BT601 = (1220542, 1673527, -852492, -409993, 2116026)
    BT709 = (1220945, 1879825, -558796, -223607, 2215014)


@dataclass(frozen=True, eq=False)
class Nv12Frame:
    """A frame that both pipelines take in the place of a BGR array. The sides are even.

    pixels: uint8 [H * 3 / 2, W], H rows of luma and then H / 2 rows of chroma. Raises DataError for anything else.
    matrix: HD video is BT709, as a rule, and SD video is BT601.

        pipeline(Nv12Frame(picture.to_ndarray(format="nv12"), YuvMatrix.BT709))  # a frame of PyAV
    """

    pixels: NDArray[np.uint8]
    matrix: YuvMatrix = YuvMatrix.BT601

    def __post_init__(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 2 or not pixels.size:
            found = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise DataError(f"The pixels of an NV12 frame must be uint8 [height * 3 / 2, width], not {found}.")
        if pixels.shape[0] % 3 or pixels.shape[1] % 2:
            raise DataError(
                f"An NV12 frame has an even height and width, and three rows for each two of the picture, but its "
                f"pixels are {list(pixels.shape)}: cut the picture to even sides before it is converted."
            )

    @property
    def frame_hw(self) -> tuple[int, int]:
        """The picture's height and width."""
        return self.pixels.shape[0] // 3 * 2, self.pixels.shape[1]

    def to_bgr(self) -> NDArray[np.uint8]:
        """The picture uint8 [H, W, 3] BGR. OpenCV converts BT601, with the same result."""
        if self.matrix is YuvMatrix.BT601:
            return np.asarray(cv2.cvtColor(np.ascontiguousarray(self.pixels), cv2.COLOR_YUV2BGR_NV12), np.uint8)
        return convert(self.pixels, self.matrix)


def convert(pixels: NDArray[np.uint8], matrix: YuvMatrix) -> NDArray[np.uint8]:
    """NV12 pixels uint8 [H * 3 / 2, W] -> uint8 [H, W, 3] BGR, as the definition above says."""
    from_luma, cr_to_red, cr_to_green, cb_to_green, cb_to_blue = matrix.value
    height, width = pixels.shape[0] // 3 * 2, pixels.shape[1]
    grey = np.maximum(pixels[:height].astype(np.int32) - BLACK, 0) * np.int32(from_luma) + np.int32(HALF)
    pairs = pixels[height:].reshape(height // 2, width // 2, 2).astype(np.int32) - NEUTRAL
    cb, cr = pairs[..., 0], pairs[..., 1]
    colours = cb_to_blue * cb, cr_to_green * cr + cb_to_green * cb, cr_to_red * cr
    bgr = np.empty((height, width, 3), np.uint8)
    for channel, colour in enumerate(colours):
        each_pixel = np.repeat(np.repeat(colour, 2, axis=0), 2, axis=1)
        np.clip((grey + each_pixel) >> SHIFT, 0, 255, out=bgr[..., channel], casting="unsafe")
    return bgr

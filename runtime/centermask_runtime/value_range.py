# SPDX-License-Identifier: Apache-2.0
"""Which values of an image with more than 8 bits become black and white: one rule for training and for running.

Cameras write 12 bits into files of 16, microscopes write floats. A range says which value is 0 and which is 255, either
by the values themselves or by percentiles of each image. Images of 8 bits are never changed by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_SAMPLES = 1 << 22  # of float values whose percentiles are taken; more are thinned out evenly


@dataclass(frozen=True)
class ValueRange:
    """The values that become 0 and 255; what lies between them is linear, what lies outside is clipped.

    >>> ValueRange(0, 4095).to_8_bits(np.array([[0, 2048, 4095, 5000]], np.uint16))
    array([[  0, 128, 255, 255]], dtype=uint8)
    """

    low: float
    high: float
    percentiles: bool = False  # whether low and high are percentiles of each image, 0 to 100

    @classmethod
    def of(
        cls, limits: tuple[float, float] | None, percentiles: tuple[float, float] | None = None
    ) -> ValueRange | None:
        """From the two values of a specification or a config, of which one at most is there."""
        if limits is not None:
            return cls(*limits)
        return None if percentiles is None else cls(*percentiles, percentiles=True)

    def to_8_bits(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """An image of any number type and shape -> uint8 of the same shape; NaN becomes 0, and uint8 stays as it is.

        An image of one value only is black where percentiles are asked for.
        """
        if image.dtype == np.uint8:
            return image
        low, high = self._limits(image)
        if image.dtype == np.uint16:
            table = _mapped(np.arange(1 << 16, dtype=np.float64), low, high)
            return np.asarray(table[image], np.uint8)
        return _mapped(image.astype(np.float64), low, high)

    def _limits(self, image: NDArray[Any]) -> tuple[float, float]:
        if not self.percentiles:
            return self.low, self.high
        if image.dtype == np.uint16:  # by counting, which is exact and much quicker than sorting
            counts = np.cumsum(np.bincount(image.ravel(), minlength=1 << 16))
            ranks = np.floor(np.array((self.low, self.high)) / 100 * (image.size - 1))
            low, high = np.searchsorted(counts, ranks, side="right")
            return float(low), float(high)
        values = image.ravel()[:: -(-image.size // MOST_SAMPLES) or 1]
        finite = values[np.isfinite(values)]
        if not finite.size:
            return 0.0, 0.0
        low, high = np.percentile(finite, (self.low, self.high))
        return float(low), float(high)


FOR_EYES = ValueRange(0.5, 99.5, percentiles=True)  # where a picture is looked at, and no model says more


def _mapped(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    span = high - low
    if span <= 0:
        return np.zeros(values.shape, np.uint8)
    scaled = np.clip((values - low) * (255 / span), 0, 255)
    return np.rint(np.nan_to_num(scaled, nan=0.0)).astype(np.uint8)

# SPDX-License-Identifier: Apache-2.0
"""Images of any size -> the inputs of a network that takes batches: what checks and calibration run a graph on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.geometry import Letterbox
from centermask_runtime.reference import preprocess


def batches(images: Iterable[NDArray[np.uint8]], input_hw: tuple[int, int], batch: int) -> Iterator[NDArray[np.uint8]]:
    """Letterboxes images uint8 [h, w, 3] into uint8 [batch, H, W, 3]; the last image fills the last batch."""
    fitted = (
        preprocess.letterbox(image, Letterbox.fit((image.shape[0], image.shape[1]), input_hw)) for image in images
    )
    while part := list(itertools.islice(fitted, batch)):
        yield np.stack(part + part[-1:] * (batch - len(part)))

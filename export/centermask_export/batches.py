# SPDX-License-Identifier: Apache-2.0
"""What checks and calibration run a graph on: images of a source, and batches of them as the network takes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.reference import preprocess
from centermask_runtime.sources.opening import open_source


def images_of(source: Path) -> Iterator[NDArray[np.uint8]]:
    """The images uint8 [h, w, 3] BGR of a folder, a file or a video. Raises DataError at one that cannot be read."""
    with open_source(source) as opened:
        for frame in opened:
            if not opened.skipped:
                yield frame.image
        if opened.skipped:
            raise DataError(opened.skipped[0])


def batches(images: Iterable[NDArray[np.uint8]], input_hw: tuple[int, int], batch: int) -> Iterator[NDArray[np.uint8]]:
    """Letterboxes images uint8 [h, w, 3] into uint8 [batch, H, W, 3]; the last image fills the last batch."""
    fitted = (
        preprocess.letterbox(image, Letterbox.fit((image.shape[0], image.shape[1]), input_hw)) for image in images
    )
    while part := list(itertools.islice(fitted, batch)):
        yield np.stack(part + part[-1:] * (batch - len(part)))

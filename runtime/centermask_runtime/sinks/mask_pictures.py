# SPDX-License-Identifier: Apache-2.0
"""Masks as one 16-bit PNG per frame: each pixel has the number of its object, 0 where there is none.

The number is the object's place in its frame from 1, which tables call `object`; with track ids it is the track id, the
same in all frames. Where masks overlap, the better object is on top, as in drawn pictures. Fiji, QuPath, scikit-image
and cv2.imread(path, cv2.IMREAD_UNCHANGED) read such label images.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import write_whole
from centermask_runtime.sinks.frame_files import FrameFileSink
from centermask_runtime.sources.source import Frame
from centermask_runtime.tracking.tracker import UNTRACKED

MOST = 65_535  # numbers that a pixel of 16 bits has for objects


class MaskSink(FrameFileSink):
    """A Sink that writes the masks of each frame as a label image."""

    suffix = ".png"

    def write(self, target: Path, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None) -> None:
        """Raises DataError for a number that 16 bits do not hold."""
        done, content = cv2.imencode(".png", label_image(instances))
        assert done, target
        write_whole(target, content.tobytes())


def label_image(instances: Instances) -> NDArray[np.uint16]:
    """The numbers of the objects, uint16 [H, W]; objects without a track, of the id UNTRACKED, are left out.

    Raises DataError for a number that 16 bits do not hold.
    """
    numbers = range(1, len(instances) + 1) if instances.ids is None else instances.ids.tolist()
    wrong = [number for number in numbers if number != UNTRACKED and not 0 < number <= MOST]
    if wrong:
        raise DataError(
            f"An object has the number {wrong[0]}, and a mask picture holds 1 to {MOST}: take another kind of results."
        )
    labels = np.zeros(instances.frame_hw, np.uint16)
    for index in reversed(range(len(instances))):
        if numbers[index] == UNTRACKED:
            continue
        x0, y0, x1, y1 = instances.masks.rects[index].tolist()
        labels[y0:y1, x0:x1][instances.masks.crop(index)] = numbers[index]
    return labels

# SPDX-License-Identifier: Apache-2.0
"""Each object cut out of its frame: crops/<class>/<frame>_<object>.png, with the mask as the alpha channel.

The pixels outside the mask keep their colours under alpha 0, so that whoever drops the alpha channel has the rectangle.
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import write_whole
from centermask_runtime.sinks.frame_files import FrameFileSink
from centermask_runtime.sources.source import Frame


class CutoutSink(FrameFileSink):
    """A Sink that writes each object as a picture of its own. An empty mask has none."""

    suffix = ".png"

    def write(self, target: Path, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None) -> None:
        inside = target.relative_to(self.folder)
        crops = instances.crops(frame.image, "transparent")
        for number, (name, crop) in enumerate(zip(instances.names, crops, strict=True), 1):
            if not crop.size:
                continue
            done, content = cv2.imencode(".png", crop)
            assert done, target
            place = self.folder / folder_name(name) / inside
            write_whole(place.with_name(f"{place.stem}_{number:03d}.png"), content.tobytes())


def folder_name(class_name: str) -> str:
    """The class's name as the name of a folder: what file systems do not take becomes _."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", class_name).strip(". ") or "_"

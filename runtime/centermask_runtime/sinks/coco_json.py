# SPDX-License-Identifier: Apache-2.0
"""Results of many frames as one COCO-format JSON file, written as they come, so that a long video takes no memory."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import PartialFile, writing_error
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.sink import FileSink, refuse_to_overwrite_frame
from centermask_runtime.sources.source import Frame

INFO = {"description": "Found by CenterMask", "version": "1.0"}  # of the format; some readers ask for an info


class CocoSink(FileSink):
    """A Sink that writes one JSON file: leaving its `with` block finishes it, leaving it by an error removes it.

    Annotations go straight to the file and images to an unnamed one that is appended at the end. Ids count from 1. What
    pycocotools wants of ground truth is there too (area, iscrowd), so COCO(path) loads it.
    """

    def __init__(self, path: str | Path, class_names: Sequence[str], category_ids: Sequence[int]) -> None:
        """Raises UsageError when the file cannot be written."""
        self.style: DrawStyle | None = None  # it takes no picture
        self._file = PartialFile(path)
        folder = self._file.path.parent  # on the same disk: /tmp may be memory
        self._images = tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder)  # noqa: SIM115 - closed with this
        self._annotations = self._file.partial.open("w", encoding="utf-8")
        self.images = self.annotations = 0
        self._failed = False
        categories = [{"id": i, "name": name} for i, name in zip(category_ids, class_names, strict=True)]
        head = json.dumps({"info": INFO, "licenses": [], "categories": categories})
        self._annotations.write(f'{head[:-1]},\n"annotations": [')

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame's instances. The frame's name becomes file_name; track ids, where there are any, track_id.

        Raises UsageError where the file is the frame's own.
        """
        refuse_to_overwrite_frame(frame, self._file.path)
        height, width = instances.frame_hw
        image: dict[str, Any] = {"id": self.images + 1, "file_name": frame.name, "height": height, "width": width}
        if frame.time_s is not None:
            image["time_s"] = round(frame.time_s, 6)
        areas = instances.masks.areas().tolist()
        try:
            self._images.write(f"{',' if self.images else ''}\n{json.dumps(image)}")
            for index, result in enumerate(instances.to_coco(image["id"])):
                annotation = {"id": self.annotations + 1, **result, "area": areas[index], "iscrowd": 0}
                self._annotations.write(f"{',' if self.annotations else ''}\n{json.dumps(annotation)}")
                self.annotations += 1
        except OSError as error:
            self._failed = True  # an annotation may be torn
            raise writing_error(self._file.path, error) from error
        self.images += 1

    def close(self) -> None:
        """Finishes the file and gives it its name; there is none where it could not be written on."""
        if self._failed:
            self.discard()
            return
        try:
            self._annotations.write('],\n"images": [')
            self._images.seek(0)
            shutil.copyfileobj(self._images, self._annotations)
            self._annotations.write("]}\n")
            self._annotations.close()
        except OSError as error:
            self.discard()
            raise writing_error(self._file.path, error) from error
        self._images.close()
        self._file.close()

    def discard(self) -> None:
        """Gives up: nothing stays on disk."""
        for file in (self._images, self._annotations):
            with suppress(OSError):  # a full disk cannot take the rest of the buffer; the file goes anyway
                file.close()
        self._file.discard()

# SPDX-License-Identifier: Apache-2.0
"""Results of many frames as one COCO-format JSON file, written as they come, so that a long video takes no memory."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import PartialFile, writing_error
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.sink import FileSink, refuse_to_overwrite_frame
from centermask_runtime.sources.source import Frame

INFO = {"description": "Found by CenterMask", "version": "1.0"}  # of the format; some readers ask for an info
TOGETHER = 1000  # instances whose results are in memory at once


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
        times = {} if frame.time_s is None else {"time_s": round(frame.time_s, 6)}
        self.add_parts(frame.name, instances.frame_hw, [instances], **times)

    def add_parts(self, name: str, frame_hw: tuple[int, int], parts: Iterable[Instances], **entries: float) -> None:
        """One image's instances, part after part, so that a large image takes no memory. entries: more of the image.

        Raises CenterMaskError, as when the disk is full.
        """
        height, width = frame_hw
        image = {"id": self.images + 1, "file_name": name, "height": height, "width": width, **entries}
        self._write(self._images, f"{',' if self.images else ''}\n{json.dumps(image)}")
        for part in parts:
            for first in range(0, len(part), TOGETHER):
                self._add_annotations(part[first : first + TOGETHER], self.images + 1)
        self.images += 1

    def _add_annotations(self, instances: Instances, image_id: int) -> None:
        areas = instances.masks.areas().tolist()
        for area, result in zip(areas, instances.to_coco(image_id), strict=True):
            annotation = {"id": self.annotations + 1, **result, "area": area, "iscrowd": 0}
            self._write(self._annotations, f"{',' if self.annotations else ''}\n{json.dumps(annotation)}")
            self.annotations += 1

    def _write(self, file: TextIO, text: str) -> None:
        try:
            file.write(text)
        except OSError as error:
            self._failed = True  # an annotation may be torn
            raise writing_error(self._file.path, error) from error

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

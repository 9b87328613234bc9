# SPDX-License-Identifier: Apache-2.0
"""An image that is larger than the memory -> predictions.json and a small drawn picture, part after part.

Objects go to the file as soon as no tile can add to them, with their masks as run lengths of the whole image. The
picture is made of every s-th pixel, with s so that its longer side has at most PICTURE_SIDE.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.images import picture_path, write_picture
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.tiles import TiledPipeline
from centermask_runtime.predict import Summary
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw
from centermask_runtime.sinks.coco_json import CocoSink
from centermask_runtime.sinks.outputs import KINDS
from centermask_runtime.sinks.sink import refuse_to_overwrite
from centermask_runtime.sources.source import SourceInfo
from centermask_runtime.tiff_windows import TiffWindows

PICTURE_SIDE = 4096  # pixels

Told = Callable[[int, int], None]  # rows of tiles done, objects so far


def save_large(
    pipeline: TiledPipeline,
    image: TiffWindows,
    folder: Path,
    *,
    style: DrawStyle | None = DEFAULT_STYLE,
    progress: Told | None = None,
) -> Summary:
    """Writes what is in a large image into a folder, as predict's `run` does with others.

    style: how the picture is drawn, None for none of it. progress: called after each row of tiles.
    Raises DataError where the image is damaged, UsageError where the folder cannot be written; nothing stays then.
    """
    name = image.path.name
    picture = picture_path(folder / name)
    refuse_to_overwrite(SourceInfo(name, files=((name, image.path),)), [folder / KINDS["coco"], picture])
    summary = Summary(output=folder)
    start = time.perf_counter()
    overview = None if style is None else _Overview(pipeline, image, style)
    with CocoSink(folder / KINDS["coco"], pipeline.spec.class_names, pipeline.spec.category_ids) as results:
        parts = _told(_parts(pipeline, image), summary, progress)
        results.add_parts(name, image.frame_hw, parts if overview is None else overview.drawn(parts))
    if overview is not None:
        write_picture(picture, overview.picture)
    summary.frames = 1
    summary.times_ms.append((time.perf_counter() - start) * 1e3)
    return summary


def _parts(pipeline: TiledPipeline, image: TiffWindows) -> Iterator[Instances]:
    """As they come; where only the best are wanted, all of them are known at the end."""
    if pipeline.has_limit:
        yield pipeline(image)
    else:
        yield from pipeline.parts(image)


def _told(parts: Iterable[Instances], summary: Summary, progress: Told | None) -> Iterator[Instances]:
    for done, part in enumerate(parts, 1):
        summary.objects += len(part)
        if progress is not None:
            progress(done, summary.objects)
        yield part


class _Overview:
    """A small picture of a large image, filled from the top."""

    def __init__(self, pipeline: TiledPipeline, image: TiffWindows, style: DrawStyle) -> None:
        self._image, self._style = image, replace(style, labels=False)
        self._step = -(-max(image.frame_hw) // PICTURE_SIDE)
        self._bands = [row[0].core[1::2] for row in pipeline.tiling.rows(image.frame_hw)]
        height, width = (-(-side // self._step) for side in image.frame_hw)
        self.picture = np.zeros((height, width, 3), np.uint8)

    def drawn(self, parts: Iterable[Instances]) -> Iterator[Instances]:
        """The same parts; each is drawn on what lies below it."""
        bands = iter(self._bands)
        for part in parts:
            self._fill(next(bands, None))
            self.picture = draw(self.picture, reduced(part, self._step), self._style)
            yield part
        for band in bands:
            self._fill(band)

    def _fill(self, band: tuple[int, ...] | None) -> None:
        """Copies the pixels of the image's rows first, ..., end - 1."""
        if band is None:
            return
        first, end, step = *band, self._step
        pixels = self._image.window((0, first, self._image.frame_hw[1], end))[-first % step :: step, ::step]
        row = -(-first // step)
        self.picture[row : row + len(pixels)] = pixels


def reduced(instances: Instances, step: int) -> Instances:
    """The instances in a frame of every step-th pixel of theirs, from the first on."""
    height, width = (-(-side // step) for side in instances.frame_hw)
    rects, crops = [], []
    for index, (x0, y0, x1, y1) in enumerate(instances.masks.rects.tolist()):
        rects.append([-(-edge // step) for edge in (x0, y0, x1, y1)])
        crops.append(instances.masks.crop(index)[-y0 % step :: step, -x0 % step :: step])
    masks = BoxMasks.from_crops((height, width), np.array(rects, np.int32).reshape(-1, 4), crops)
    return replace(instances, frame_hw=(height, width), boxes=instances.boxes / np.float32(step), masks=masks)

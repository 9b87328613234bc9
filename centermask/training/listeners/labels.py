# SPDX-License-Identifier: Apache-2.0
"""labels.jpg shows what a training set consists of: classes, objects per image, where they lie, how large they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from centermask.config import STRIDE
from centermask.data.dataset import Dataset
from centermask.evaluation.figure import BOX, INK, MASK, new_figure, save_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 30  # the most frequent ones
MOST_IMAGES = 1000  # whose masks are decoded for the boxes
GRID = (12, 48)  # cells a side of the map of centres: few for few boxes


def draw_labels(dataset: Dataset, path: Path, input_hw: tuple[int, int]) -> None:
    """Draws a data set's objects without crowds. Sizes are as the network sees them at scale 1, in pixels."""
    labels = [dataset.labels(index) for index in range(len(dataset))]
    boxes = network_boxes(dataset, input_hw)
    figure = new_figure(11, 8)
    classes, each, where, size = figure.subplots(2, 2).flat
    _classes(classes, dataset.class_names, Counter(label for image in labels for label in image))
    _objects(each, [len(image) for image in labels])
    _centres(where, boxes)
    _sizes(size, boxes)
    save_figure(figure, path)


def network_boxes(dataset: Dataset, input_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Takes boxes of evenly spread images [n, 4]: centre as a part of the image, width and height in network pixels."""
    step = -(-len(dataset) // MOST_IMAGES)
    boxes = []
    for index in range(0, len(dataset), step):
        record = dataset.images[index]
        scale = min(input_hw[0] / record.height, input_hw[1] / record.width)
        for one in dataset.objects(index):
            if not one.crowd:
                x0, y0, x1, y1 = one.rect
                centre = (x0 + x1) / 2 / record.width, (y0 + y1) / 2 / record.height
                boxes.append((*centre, (x1 - x0) * scale, (y1 - y0) * scale))
    return np.array(boxes, np.float64).reshape(-1, 4)


def _classes(axes: Axes, names: Sequence[str], counts: Counter[int]) -> None:
    shown = sorted(range(len(names)), key=lambda label: (-counts[label], label))[:MOST_CLASSES]
    values = [counts[label] for label in shown]
    bars = axes.barh(range(len(shown)), values, color=BOX, height=0.8)
    axes.set_yticks(range(len(shown)), [names[label] for label in shown])
    axes.invert_yaxis()
    small = 8 if len(shown) <= 15 else 6
    axes.bar_label(bars, [f"{value:,}" for value in values], padding=3, fontsize=small, color=INK)
    axes.margins(x=0.15)
    more = f", the {len(shown)} most frequent of {len(names)}" if len(names) > len(shown) else ""
    style(axes, f"Objects per class{more}")
    axes.tick_params(axis="y", labelsize=small)
    axes.grid(axis="y", visible=False)


def _objects(axes: Axes, counts: Sequence[int]) -> None:
    most = max(counts, default=0)
    width = max(-(-most // 40), 1)
    axes.hist(counts, bins=np.arange(-0.5, most + width + 0.5, width).tolist(), color=BOX, rwidth=0.9)
    empty = sum(1 for count in counts if not count)
    title = f"Objects per image: {sum(counts):,} in {len(counts):,} images"
    style(axes, title + (f", {empty:,} without any" if empty else ""), "objects", "images")


def _centres(axes: Axes, boxes: NDArray[np.float64]) -> None:
    cells = _grid(len(boxes))
    counts, _, _ = np.histogram2d(boxes[:, 1], boxes[:, 0], bins=cells, range=[[0, 1], [0, 1]])
    axes.imshow(counts, cmap="Blues", extent=(0, 1, 1, 0), interpolation="nearest", vmin=0, aspect="equal")
    style(axes, "Centres of boxes", "x, part of the width", "y, part of the height")
    axes.grid(False)


def _sizes(axes: Axes, boxes: NDArray[np.float64]) -> None:
    """Draws width against height; dashed: a cell of the heat map, below which neighbours can share one."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    width, height = boxes[:, 2], boxes[:, 3]
    if len(boxes):
        cells = _grid(len(boxes))
        axes.hexbin(width, height, xscale="log", yscale="log", gridsize=cells, mincnt=1, cmap="Blues", vmin=0)
        low, high = float(boxes[:, 2:].min()), float(boxes[:, 2:].max())
        axes.set_xlim(low * 0.8, high * 1.25)
        axes.set_ylim(low * 0.8, high * 1.25)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(2))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_locator(NullLocator())
    for draw in (axes.axvline, axes.axhline):
        draw(STRIDE, color=MASK, linewidth=1, linestyle="--")
    tiny = float((np.minimum(width, height) < STRIDE).mean()) if len(boxes) else 0.0
    style(axes, f"Sizes of boxes: {tiny:.1%} below {STRIDE} pixels", "width, network pixels", "height, network pixels")


def _grid(count: int) -> int:
    return int(np.clip(2 * count**0.4, *GRID))

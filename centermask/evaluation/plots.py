# SPDX-License-Identifier: Apache-2.0
"""Diagrams of an evaluation: precision over recall, F1 over the score threshold, and the confusion matrix.

The mean over classes is the bold line. Single classes have names up to MOST_NAMED of them; more are faint lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from centermask.evaluation.confusion import BACKGROUND, IOU_THRESHOLD
from centermask.evaluation.curves import SCORES, Curves
from centermask.evaluation.figure import BOX, COLOURS, FAINT, INK, MASK, new_figure, save_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 10
MOST_CELLS = 30  # classes: a larger confusion matrix has colours but no numbers
IOUS = {0.5: "-", 0.75: "--", 0.9: ":"}  # drawn of the mean precision
KINDS = {"bbox": "boxes", "segm": "masks"}


def draw_pr_curve(path: Path, found: Curves) -> None:
    """Draws precision over recall: each class at IoU 0.5, their mean at IoU 0.5, 0.75 and 0.9."""
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    colour = _colour(found)
    at = {iou: int(np.argmin(np.abs(found.ious - iou))) for iou in IOUS}
    at_half = found.precision[at[0.5]].T
    _classes(axes, found, found.recall, at_half, [f"AP50 {value:.3f}" for value in at_half.mean(1)])
    for iou, dashes in IOUS.items():
        mean = found.precision[at[iou]].mean(1)
        label = f"all, IoU {iou:g}: AP {mean.mean():.3f}"
        axes.plot(found.recall, mean, dashes, color=colour, linewidth=2.2, label=label)
    style(axes, f"Precision and recall of {KINDS[found.kind]}, AP {found.precision.mean():.3f}", "recall", "precision")
    _unit_square(axes)
    save_figure(figure, path)


def draw_f1_curve(path: Path, found: Curves) -> None:
    """Draws F1, precision and recall at IoU 0.5 over the score threshold, and names the best threshold."""
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    threshold, best = found.best
    counted = np.isfinite(found.precision_at)
    precision = np.where(counted, found.precision_at, 0).sum(0) / np.maximum(counted.sum(0), 1)
    precision[~counted.any(0)] = np.nan
    named = [f"F1 {value:.3f}" for value in found.f1_at[:, int(np.argmin(np.abs(SCORES - threshold)))]]
    _classes(axes, found, SCORES, found.f1_at, named)
    colour = _colour(found)
    axes.plot(SCORES, precision, "--", color=colour, linewidth=1.4, label="precision, all")
    axes.plot(SCORES, found.recall_at.mean(0), ":", color=colour, linewidth=1.4, label="recall, all")
    axes.plot(SCORES, found.f1_at.mean(0), color=colour, linewidth=2.2, label="F1, all")
    axes.axvline(threshold, color=INK, linewidth=0.8)
    axes.plot([threshold], [best], "o", color=colour, markersize=7, markeredgecolor="white")
    axes.text(
        threshold + (0.015 if threshold < 0.7 else -0.015), 0.03, f"F1 {best:.3f} at score {threshold:.3f}",
        ha="left" if threshold < 0.7 else "right", va="bottom", fontsize=9, color=INK,
    )  # fmt: skip
    style(axes, f"F1 of {KINDS[found.kind]} at IoU 0.5", "score threshold", "")
    _unit_square(axes)
    save_figure(figure, path)


def draw_confusion_matrix(
    path: Path, matrix: NDArray[np.int64], class_names: Sequence[str], score_threshold: float
) -> None:
    """Draws parts of the true class as colours (last row: of all taken from background) and counts as numbers."""
    names = [*class_names, BACKGROUND]
    count = len(names)
    side = min(max(0.55 * count, 3.6), 16)
    figure = new_figure(side + 2.4, side + 1.2)
    axes = figure.add_subplot()
    parts = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(parts, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    title = f"Masks: IoU ≥ {IOU_THRESHOLD:g}, score ≥ {score_threshold:.3f}"
    style(axes, title, "predicted", "true")
    axes.grid(False)
    small = 8 if count <= MOST_CELLS else 6
    axes.set_xticks(range(count), names, rotation=90 if count > 5 else 0, fontsize=small)
    axes.set_yticks(range(count), names, fontsize=small)
    axes.axhline(count - 1.5, color=FAINT, linewidth=0.8)
    axes.axvline(count - 1.5, color=FAINT, linewidth=0.8)
    if count <= MOST_CELLS:
        for row, column in np.argwhere(matrix > 0).tolist():
            ink = "white" if parts[row, column] > 0.55 else INK
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="part of the row")
    bar.ax.yaxis.label.set(fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    save_figure(figure, path)


def _classes(axes: Axes, found: Curves, x: NDArray[np.float64], lines: NDArray[np.float64], notes: list[str]) -> None:
    """Draws one line per class [C, n]; none where the only class is the mean itself."""
    if len(found.class_names) == 1:
        return
    named = len(found.class_names) <= MOST_NAMED
    for number, (name, line, note) in enumerate(zip(found.class_names, lines, notes, strict=True)):
        colour = COLOURS[number % len(COLOURS)] if named else FAINT
        label = f"{name}: {note}" if named else None
        axes.plot(x, line, color=colour, linewidth=1.1 if named else 0.6, label=label, alpha=0.9 if named else 0.7)


def _unit_square(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8, borderaxespad=0)


def _colour(found: Curves) -> str:
    return MASK if found.kind == "segm" else BOX

# SPDX-License-Identifier: Apache-2.0
"""results.png shows the columns of results.csv over the epochs: AP first, then the losses."""

from __future__ import annotations

import csv
import math
from pathlib import Path

from centermask.evaluation.figure import BOX, INK, MASK, new_figure, save_figure, style

COLUMNS = 3
PAIRS = {"AP": ("val/bbox_AP", "val/segm_AP"), "AP50": ("val/bbox_AP50", "val/segm_AP50")}
LOSSES = "train/"
RATE = "lr"

Line = tuple[list[float], list[float]]  # epochs, values


def draw_results(table: Path, picture: Path) -> None:
    """Draws results.csv with one panel per quantity; the best epoch of each AP is marked."""
    from matplotlib.ticker import MaxNLocator

    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    losses = [name for name in rows[0] if name.startswith(LOSSES)]
    losses.sort(key=lambda name: name != f"{LOSSES}total")
    count = len(PAIRS) + 1 + len(losses)
    lines = math.ceil(count / COLUMNS)
    figure = new_figure(4.2 * COLUMNS, 2.7 * lines)
    panels = iter(figure.subplots(lines, COLUMNS, squeeze=False).flat)
    for title, names in PAIRS.items():
        axes = next(panels)
        for name, label, colour in zip(names, ("boxes", "masks"), (BOX, MASK), strict=True):
            epochs, values = finite_points(rows, name)
            best = max(values, default=0.0)
            text = f"{label}, best {best:.3f}" if values else label
            axes.plot(epochs, values, color=colour, linewidth=1.8, marker=_marker(values), markersize=3, label=text)
            if values:
                at = epochs[values.index(best)]
                axes.plot([at], [best], "o", color=colour, markersize=6, markeredgecolor="white", clip_on=False)
        style(axes, title, "epoch")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    for name in (RATE, *losses):
        axes = next(panels)
        epochs, values = finite_points(rows, name)
        axes.plot(epochs, values, color=INK, linewidth=1.6, marker=_marker(values), markersize=3)
        title = "learning rate" if name == RATE else f"loss: {name.removeprefix(LOSSES)}"
        style(axes, title, "epoch")
        axes.ticklabel_format(axis="y", scilimits=(-3, 4))
        axes.yaxis.get_offset_text().set_fontsize(8)
    for axes in panels:
        axes.set_axis_off()
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    save_figure(figure, picture)


def finite_points(rows: list[dict[str, str]], name: str) -> Line:
    """Takes a column without the epochs that have no number in it (NaN: not validated)."""
    points = [(float(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
    points = [(epoch, value) for epoch, value in points if math.isfinite(value)]
    return [epoch for epoch, _ in points], [value for _, value in points]


def _marker(values: list[float]) -> str | None:
    return "o" if len(values) < 25 else None

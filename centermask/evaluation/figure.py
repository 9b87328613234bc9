# SPDX-License-Identifier: Apache-2.0
"""How diagrams look, and how they become files: matplotlib's Agg canvas without pyplot, so nothing global is touched.

Colours are those of drawn masks: the palette of centermask_runtime.reference.overlay.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_runtime.partial_file import write_whole
from centermask_runtime.reference.overlay import PALETTE_BGR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK, FAINT = "#333333", "#b8b8b8"
COLOURS = tuple(f"#{red:02x}{green:02x}{blue:02x}" for blue, green, red in PALETTE_BGR)
BOX, MASK = "#0072b2", "#d55e00"  # blue and vermilion of the same palette


def new_figure(width: float, height: float) -> Figure:
    """Makes an empty figure of a size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Sets title, axis names and a quiet frame."""
    axes.set_title(title, fontsize=11, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a .png or .jpg, whole or not at all. Raises UsageError, or CenterMaskError when the disk is full."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:])
    write_whole(path, content.getvalue())

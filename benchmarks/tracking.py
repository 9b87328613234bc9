# SPDX-License-Identifier: Apache-2.0
"""How well objects keep their ids: HOTA, IDF1 and id switches on 60 hand-labelled frames of a road.

Labelled boxes become detections as a network gives them: some are missing, edges tremble in proportion to the box,
boxes of nothing are added, scores vary. They are drawn by a seed, so the numbers are the same everywhere. The metrics
are those of the package `trackers`, which follow TrackEval. "perfect" gives each detection of a labelled box its true
id: no tracker that leaves boxes as they are gets more.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from trackers.eval import evaluate_mot_sequence

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.geometry import clip_boxes
from centermask_runtime.instances import Instances
from centermask_runtime.sources.source import Frame
from centermask_runtime.tracking.tracker import UNTRACKED, Tracker

LABELS = Path(__file__).parents[1] / "tests" / "assets" / "highway" / "gt.txt"
FRAME_HW, FPS, FRAMES = (540, 960), 25, 60


@dataclass(frozen=True)
class Noise:
    """What a detector does to the labelled boxes."""

    missing: float = 0.15  # part of the boxes
    jitter: float = 0.05  # standard deviation of each edge, in parts of the box's side
    false: float = 0.5  # boxes of nothing per frame, on average
    gap: tuple[int, int] | None = None  # frames, from and to before, in which nothing is found


NOISES = {
    "labelled boxes": Noise(0, 0, 0),
    "a detector": Noise(),
    "an inexact one": Noise(jitter=0.1),
    "many false": Noise(false=2),
    "gap of 1 s": Noise(gap=(20, 45)),
}


@dataclass(frozen=True)
class Scores:
    """Each from 0 to 1 but the counts."""

    hota: float
    idf1: float
    association: float
    switches: float
    tracks: float  # of seven


def detections(noise: Noise, seed: int) -> Iterator[tuple[Instances, NDArray[np.int64]]]:
    """What is found in each of the frames, and whose box it is: the labelled id, or -1 for nothing's."""
    random = np.random.default_rng(seed)
    labels = np.loadtxt(LABELS, delimiter=",")
    for number in range(1, FRAMES + 1):
        rows = labels[labels[:, 0] == number]
        found = random.random(len(rows)) >= noise.missing
        if noise.gap is not None and noise.gap[0] <= number < noise.gap[1]:
            found[:] = False
        rows = rows[found]
        sides = np.tile(rows[:, 4:6], 2)
        boxes = np.concatenate((rows[:, 2:4], rows[:, 2:4] + rows[:, 4:6]), 1) + random.normal(0, 1, sides.shape) * (
            noise.jitter * sides
        )
        false = random.poisson(noise.false) if noise.gap is None else 0
        corners = random.uniform((0, 280), (900, 400), (false, 2))
        boxes = np.concatenate((boxes, np.concatenate((corners, corners + random.uniform(15, 80, (false, 2))), 1)))
        scores = np.concatenate((random.uniform(0.35, 0.95, len(rows)), random.uniform(0.3, 0.6, false)))
        order = np.argsort(-scores)
        owners = np.concatenate((rows[:, 1], np.full(false, UNTRACKED))).astype(np.int64)
        yield _instances(boxes[order], scores[order]), owners[order]


def scores_of(noise: Noise, seed: int, tracker: Tracker | None) -> Scores:
    """The scores of a tracker; None for the perfect one."""
    lines = []
    for index, (found, owners) in enumerate(detections(noise, seed)):
        frame = Frame(np.zeros((1, 1, 3), np.uint8), str(index), index, index / FPS)
        ids = owners if tracker is None else tracker.update(frame, found).ids
        assert ids is not None
        for (x1, y1, x2, y2), score, track in zip(found.boxes, found.scores, ids.tolist(), strict=True):
            if track != UNTRACKED:
                lines.append(f"{index + 1},{track},{x1},{y1},{x2 - x1},{y2 - y1},{score},-1,-1,-1\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tracks.txt"
        path.write_text("".join(lines))
        result = evaluate_mot_sequence(LABELS, path, ["HOTA", "Identity", "CLEAR"])
    assert result.HOTA is not None and result.Identity is not None and result.CLEAR is not None
    tracks = len({line.split(",")[1] for line in lines})
    return Scores(result.HOTA.HOTA, result.Identity.IDF1, result.HOTA.AssA, result.CLEAR.IDSW, tracks)


def mean_scores(noise: Noise, seeds: int, *, perfect: bool = False) -> Scores:
    """The mean over the seeds 0, 1, ..., each with a new tracker."""
    each = [scores_of(noise, seed, None if perfect else Tracker(fps=FPS)) for seed in range(seeds)]
    return Scores(*np.array([[*vars(one).values()] for one in each]).mean(0).tolist())


def _instances(boxes: NDArray[np.float64], scores: NDArray[np.float64]) -> Instances:
    boxes_xyxy = clip_boxes(boxes.astype(np.float32), FRAME_HW)
    n = len(boxes)
    masks = BoxMasks.from_crops(FRAME_HW, np.zeros((n, 4), np.int32), [np.zeros((0, 0), np.bool_)] * n)
    return Instances(FRAME_HW, boxes_xyxy, scores.astype(np.float32), np.zeros(n, np.int32), masks, ("vehicle",), (1,))


@click.command()
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True, help="Draws of the noise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the table.")
def main(seeds: int, as_json: bool) -> None:
    """Measure HOTA and IDF1 of the tracker on labelled boxes with a detector's noise."""
    table = Table("detections", "", "HOTA", "IDF1", "AssA", "id switches", "tracks (of 7)")
    found = {}
    for name, noise in NOISES.items():
        for who, perfect in (("Tracker", False), ("perfect", True)):
            scores = mean_scores(noise, seeds, perfect=perfect)
            found[f"{name}, {who}"] = vars(scores)
            table.add_row(
                name, who, *(f"{value:.3f}" for value in (scores.hota, scores.idf1, scores.association)),
                f"{scores.switches:.1f}", f"{scores.tracks:.1f}",
            )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found))
    else:
        Console().print(table)


if __name__ == "__main__":
    main()

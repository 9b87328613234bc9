# SPDX-License-Identifier: Apache-2.0
"""Counting: what crosses lines, and what is in zones, of objects with track ids.

- A crossing counts when the object's anchor is further than the margin beyond the line, so a box that trembles on a
  line is counted once, when it has left it. What counts is the sum of its steps through the line until then: 1 in, -1
  out, 0 for one that turned back. An object that is lost within the margin has not crossed.
- A zone has its objects `inside`, as its anchors are in this frame, tracked or not. `in` and `out` count tracks that
  came in or went out, again by more than the margin; one that was first seen inside has not come in, and one that is
  lost inside has not gone out. `seen` counts the different tracks that were inside so far.
- Between two frames an object goes straight: one that is missing for a while still crosses what is in its way.
- The frames' size may change: regions are then scaled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from centermask_runtime.instances import Instances
from centermask_runtime.sources.source import Frame
from centermask_runtime.tracking.regions import Point, Region, anchors, border_distance, contains, crossing
from centermask_runtime.tracking.regions_file import Regions

FORGET = 100_000  # a track after so many frames without it


@dataclass
class Counts:
    """What was counted in one region so far; all by label."""

    region: Region  # in the frame of the last counting
    came_in: Counter[int] = field(default_factory=Counter)
    went_out: Counter[int] = field(default_factory=Counter)
    inside: Counter[int] = field(default_factory=Counter)  # of a zone, in the last frame
    seen: Counter[int] = field(default_factory=Counter)  # of a zone

    @property
    def labels(self) -> list[int]:
        """Those of which anything was counted so far."""
        return sorted({*self.came_in, *self.went_out, *self.inside, *self.seen})


class Counting:
    """Counts objects in regions, frame after frame, in the order of the frames.

    counting = Counting(read_regions("street.yaml"), model.spec.class_names)
    for result in model.track("clip.mp4"):
        for counts in counting.add(result.frame, result.instances):
            print(counts.region.name, counts.came_in.total(), counts.went_out.total(), counts.inside.total())
    """

    def __init__(self, regions: Regions, class_names: Sequence[str]) -> None:
        """Raises DataError for a class that is not in class_names."""
        self._regions = regions
        self._labels = [region.labels(class_names) for region in regions.regions]
        self._tracks: list[dict[int, _Track]] = [{} for _ in regions.regions]
        self._frame_hw: tuple[int, int] | None = None
        self._first_hw: tuple[int, int] | None = None
        self._frames = 0
        self.counts = [Counts(region) for region in regions.regions]

    def add(self, frame: Frame, instances: Instances) -> list[Counts]:
        """Counts the instances of the next frame -> the counts of all regions, in their order.

        They are the same objects each time. Raises DataError for a region that reaches out of the first frame.
        """
        self._fit(instances.frame_hw)
        self._frames += 1
        ids = [-1] * len(instances) if instances.ids is None else instances.ids.tolist()
        labels = instances.labels.tolist()
        sides = np.maximum((instances.boxes[:, 2:] - instances.boxes[:, :2]).min(axis=1, initial=np.inf), 0).tolist()
        for counts, counted, tracks in zip(self.counts, self._labels, self._tracks, strict=True):
            region = counts.region
            counts.inside.subtract(counts.inside.copy())  # labels stay, at 0
            for (x, y), short_side, label, track_id in zip(
                anchors(instances.boxes, region.anchor).tolist(), sides, labels, ids, strict=True
            ):
                if label not in counted:
                    continue
                point = (x, y)
                inside = region.kind == "zone" and contains(region.points, point)
                if inside:
                    counts.inside[label] += 1
                if track_id < 0:
                    continue
                if track_id not in tracks:
                    tracks[track_id] = _Track(point, inside)
                track = tracks[track_id]
                track.last_frame = self._frames
                track.step(counts, label, point, inside, region.margin * short_side)
            if self._frames % 1000 == 0:
                for track_id in [key for key, track in tracks.items() if self._frames - track.last_frame > FORGET]:
                    del tracks[track_id]
        return self.counts

    def _fit(self, frame_hw: tuple[int, int]) -> None:
        """Brings regions and places of tracks into the frame's size, where it is another."""
        if frame_hw == self._frame_hw:
            return
        if self._first_hw is None:
            self._first_hw = frame_hw
        fitted = Regions(self._regions.regions, self._regions.frame_hw or self._first_hw).within(frame_hw)
        for counts, region, tracks in zip(self.counts, fitted, self._tracks, strict=True):
            counts.region = region
            tracks.clear()  # the tracker begins anew, too
        self._frame_hw = frame_hw


@dataclass
class _Track:
    """One track at one region."""

    point: Point
    settled_inside: bool  # of a zone: where it was when it was last further from the border than the margin
    pending: int = 0  # of a line: its steps through it since then
    was_seen: bool = False
    last_frame: int = 0

    def step(self, counts: Counts, label: int, point: Point, inside: bool, margin: float) -> None:
        region = counts.region
        if region.kind == "line":
            self.pending += crossing(region.points[0], region.points[1], self.point, point)
        elif inside and not self.was_seen:
            self.was_seen = True
            counts.seen[label] += 1
        self.point = point
        if (self.pending or inside != self.settled_inside) and border_distance(region, point) >= margin:
            if region.kind == "line":
                (counts.came_in if self.pending > 0 else counts.went_out)[label] += abs(self.pending)
                self.pending = 0
            else:
                (counts.came_in if inside else counts.went_out)[label] += 1
                self.settled_inside = inside

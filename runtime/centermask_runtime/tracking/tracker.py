# SPDX-License-Identifier: Apache-2.0
"""Tracker: gives the objects of a video their ids. Boxes are associated by the package `trackers`.

Its BoT-SORT is taken, without compensation of the camera's motion: ByteTrack's association in two steps, with a filter
whose noise is in proportion to the box, so that a track is still where it should be after a second without detections.

Here is decided what the library leaves open:

- Ids count from 1 in the order in which tracks are confirmed, and none is given twice by one tracker.
- A track is confirmed when its object was found in `confirm` frames in a row. An object without a confirmed track has
  the id UNTRACKED, -1.
- An object that is missing for up to `gap` seconds keeps its id; one that is missing for longer gets a new one. Seconds
  are those of the frames' own times, so frames that were left out change nothing. Frames without times, such as those
  of a folder, are `fps` per second.
- A frame of another size, a time that goes back by a frame or more, and one that jumps ahead by more than the gap begin
  anew: no object after it has an id from before. A stream that comes back within the gap, in the same size and with
  times that go on, keeps its ids.
- Each source of several has tracks of its own, and a track is in one source; ids are different in all of them.
- Objects of two classes are never one track, unless `by_class` is False: then a label may change within a track.
- The order of the objects is not changed, and none is left out: masks, boxes and scores stay where they are.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.arguments import check_flags, number, whole
from centermask_runtime.instances import Instances
from centermask_runtime.packages import need
from centermask_runtime.sources.source import Frame
from centermask_runtime.tracking.by_source import BySource

if TYPE_CHECKING:
    from trackers import BoTSORTTracker

UNTRACKED = -1
LONGEST_GAP_S = 3600.0
SAME_TIME_S = 1e-6  # from one frame to the next where both have the same time: the library wants time to go on


class Tracker:
    """Gives objects their ids, frame after frame, in the order in which they were taken; it is for one thread.

    tracker = Tracker(gap=2.0)
    for frame in source:
        found = tracker.update(frame, pipeline(frame.image))
        print(found.ids)  # int64 [N], -1 where there is no confirmed track
    """

    def __init__(
        self,
        *,
        gap: float = 1.5,
        confirm: int = 2,
        start_conf: float = 0.0,
        overlap: float = 0.15,
        by_class: bool = True,
        fps: float = 25.0,
    ) -> None:
        """Raises UsageError for values that make no sense, and where the extra `track` is not installed.

        gap: seconds for which an object may be missing and keep its id. confirm: frames in a row in which an object is
        found before it has an id. start_conf: the lowest score that begins a track; objects below it only go on with
        one. overlap: the least IoU of a box with the place where its track is expected; twice as much where the track
        is new or the score below start_conf. by_class: whether a track stays in its class. fps: how many frames per
        second come where their source does not say, which is also the time of those that have none.
        """
        need("trackers", "track", "tracking")
        check_flags(by_class=by_class)
        self._by_class, self._gap = by_class, number("gap", gap, 0, LONGEST_GAP_S)
        self._rules = _Rules(
            confirm=whole("confirm", confirm, 2, 1000),
            start_conf=number("start_conf", start_conf, 0, 1),
            overlap=number("overlap", overlap, 0.01, 0.5),
            fps=number("fps", fps, 0.001, 10_000),
            patience_s=0.0,
        )
        self._last_id = 0
        self._scenes = BySource(self._scene_of)

    def update(self, frame: Frame, instances: Instances) -> Instances:
        """The instances of the next frame, in their order, with ids int64 [N]; UNTRACKED without a confirmed track."""
        scene = self._scenes.of(frame)
        scene.begin(frame, instances.frame_hw)
        labels = instances.labels if self._by_class else np.zeros(len(instances), np.int32)
        ids = np.full(len(instances), UNTRACKED, np.int64)
        for label, group in scene.groups_for(set(labels.tolist())):
            places = np.flatnonzero(labels == label)
            numbers = group.update(instances.boxes[places], instances.scores[places], scene.time_s)
            for place, number_in_group in zip(places.tolist(), numbers.tolist(), strict=True):
                if number_in_group != UNTRACKED:
                    ids[place] = self._id_of(group, number_in_group)
            group.forget()
        return dataclasses.replace(instances, ids=ids)

    def _scene_of(self, frame: Frame) -> _Scene:
        declared = None if frame.source is None else frame.source.fps
        fps = float(declared) if declared else self._rules.fps
        return _Scene(self._rules._replace(fps=fps, patience_s=self._gap + 1.5 / fps))

    def _id_of(self, group: _Group, number_in_group: int) -> int:
        if number_in_group not in group.ids:
            self._last_id += 1
            group.ids[number_in_group] = self._last_id
        return group.ids[number_in_group]


class _Rules(NamedTuple):
    patience_s: float  # from one frame with an object to the next: a frame and a half more than it may be missing
    confirm: int
    start_conf: float
    overlap: float
    fps: float


class _Scene:
    """The tracks of one source, by class, and its clock."""

    def __init__(self, rules: _Rules) -> None:
        self._rules = rules
        self._by_label: dict[int, _Group] = {}
        self._frame_hw: tuple[int, int] | None = None
        self.time_s = 0.0

    def begin(self, frame: Frame, frame_hw: tuple[int, int]) -> None:
        """Sets the clock to the next frame; forgets all tracks where nothing can be followed to it."""
        time_s = self._time_of(frame)
        if frame_hw != self._frame_hw or not self.time_s < time_s <= self.time_s + self._rules.patience_s:
            self._by_label.clear()
        self._frame_hw, self.time_s = frame_hw, time_s

    def groups_for(self, labels: set[int]) -> list[tuple[int, _Group]]:
        """All that have tracks, and those of these labels."""
        for label in labels - set(self._by_label):
            self._by_label[label] = _Group(self._rules)
        return sorted(self._by_label.items())

    def _time_of(self, frame: Frame) -> float:
        """The frame's time, later than the one before it unless it goes back by a frame or more."""
        if frame.time_s is None or not math.isfinite(frame.time_s):
            return self.time_s + 1 / self._rules.fps
        if self.time_s - 1 / self._rules.fps < frame.time_s <= self.time_s:
            return self.time_s + SAME_TIME_S
        return frame.time_s


class _Group:
    """The tracks of one class: the library's tracker, and which id is which of its numbers."""

    def __init__(self, rules: _Rules) -> None:
        from trackers import BoTSORTTracker  # an extra

        self.ids: dict[int, int] = {}
        self._tracker: BoTSORTTracker = BoTSORTTracker(
            frame_rate=rules.fps,
            track_activation_threshold=_lifted(rules.start_conf),
            minimum_consecutive_frames=rules.confirm,
            minimum_iou_threshold_first_assoc=rules.overlap,
            minimum_iou_threshold_second_assoc=2 * rules.overlap,
            minimum_iou_threshold_unconfirmed_assoc=2 * rules.overlap,
            high_conf_det_threshold=_lifted(rules.start_conf),
            enable_cmc=False,
            instant_first_frame_activation=False,
        )
        self._tracker.maximum_time_without_update = rules.patience_s  # the constructor takes it in 30ths of a second

    def update(self, boxes: NDArray[np.float32], scores: NDArray[np.float32], time_s: float) -> NDArray[np.int64]:
        """Boxes [N, 4] -> the library's number of each, int64 [N]; UNTRACKED without a confirmed track."""
        import supervision

        tracked = self._tracker.update(
            supervision.Detections(xyxy=boxes, confidence=_lifted(scores), data={"place": np.arange(len(boxes))}),
            timestamp=time_s,
        )
        numbers = np.full(len(boxes), UNTRACKED, np.int64)
        if len(tracked):  # the library gives them in another order
            numbers[np.asarray(tracked.data["place"])] = np.asarray(tracked.tracker_id, np.int64)
        return numbers

    def forget(self) -> None:
        """Drops the ids of tracks that ended, so that a year of video takes no more memory than an hour."""
        alive = {track.tracker_id for track in self._tracker.tracks}
        self.ids = {number: track for number, track in self.ids.items() if number in alive}


def _lifted(score: Any) -> Any:
    """A score 0 to 1 -> 0.5 to 1: the library multiplies IoU by it, and some models' scores are lower than others'."""
    return 0.5 + 0.5 * score

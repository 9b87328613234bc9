# SPDX-License-Identifier: Apache-2.0
"""Instances: the one result type, and the forms that other tools take it in."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from centermask_runtime import arguments
from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.geometry import clip_boxes
from centermask_runtime.images import check_frame, write_picture
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle, draw


@dataclass(frozen=True, eq=False)
class Instances:
    """What was found in one frame, best first.

    boxes   float32 [N, 4]  xyxy, source pixels, inside the frame
    scores  float32 [N]
    labels  int32 [N]       index into class_names
    masks   BoxMasks of N
    ids     int64 [N]       track ids, the same for one object in all frames, -1 where it has no confirmed track; None
                            where nobody tracks

        found = pipeline(image)
        for name, score, box, polygons in zip(found.names, found.scores, found.boxes, found.masks.polygons()):
            print(name, f"{score:.2f}", box.round(), len(polygons))
        cats = found.select(found.labels == found.class_names.index("cat"))
        cats.save("cats.png", image)
        best = found[:3]  # as found.select(slice(3))
    """

    frame_hw: tuple[int, int]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    masks: BoxMasks
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    ids: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_hw", arguments.frame_size(self.frame_hw))
        if not isinstance(self.masks, BoxMasks):
            raise DataError(f"masks must be BoxMasks, not {type(self.masks).__name__}: BoxMasks.from_crops makes them.")
        n = len(self.masks)
        arguments.check_array("boxes", self.boxes, "f", (n, 4))
        arguments.check_array("scores", self.scores, "f", (n,))
        arguments.check_array("labels", self.labels, "iu", (n,))
        if self.ids is not None:
            arguments.check_array("ids", self.ids, "iu", (n,))
        if self.masks.frame_hw != self.frame_hw:
            raise DataError(
                f"The masks are of a frame of {self.masks.frame_hw}, the instances of one of {self.frame_hw}: moved() "
                "brings both into another frame."
            )
        classes = min(len(self.class_names), len(self.category_ids))
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < classes:
            raise DataError(
                f"labels must be from 0 to {classes - 1}, places in class_names and category_ids, not "
                f"{self.labels.min()} to {self.labels.max()}."
            )

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Instances]:
        return (self.select(np.array([i])) for i in range(len(self)))

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in Counter(self.names).most_common())
        return f"Instances({counts or 'none'} in {self.frame_hw[1]} x {self.frame_hw[0]})"

    @property
    def names(self) -> list[str]:
        """The class name of each instance."""
        return [self.class_names[label] for label in self.labels.tolist()]

    def __getitem__(self, keep: Any) -> Instances:
        """The same as select: found[0] is the best one, as Instances of one."""
        return self.select(keep)

    def select(self, keep: Any) -> Instances:
        """The instances of a boolean mask, of indices, of one index or of a slice, in that order. Raises UsageError."""
        keep = arguments.places(keep, len(self))
        return dataclasses.replace(
            self,
            boxes=self.boxes[keep],
            scores=self.scores[keep],
            labels=self.labels[keep],
            masks=self.masks.select(keep),
            ids=None if self.ids is None else self.ids[keep],
        )

    def moved(self, offset_xy: tuple[int, int], frame_hw: tuple[int, int]) -> Instances:
        """The instances in another frame, in which the origin of this one lies at offset_xy, in whole pixels.

        So what was found in a tile comes into the whole picture. What lies outside is cut off, and an instance that is
        all outside stays with an empty mask. Raises UsageError for an offset that is not whole, DataError for no frame.

            tile = pipeline(picture[200:840, 600:1240])
            found = tile.moved((600, 200), picture.shape[:2])
        """
        (right, down), frame_hw = arguments.whole_offset(offset_xy), arguments.frame_size(frame_hw)
        shift = np.array((right, down, right, down), np.float32)
        boxes = clip_boxes(self.boxes + shift, frame_hw)
        masks = self.masks.moved((right, down), frame_hw)
        return dataclasses.replace(self, frame_hw=frame_hw, boxes=boxes, masks=masks)

    @staticmethod
    def concatenate(parts: Iterable[Instances]) -> Instances:
        """The instances of several parts of one frame, part after part: best_first() sorts them.

        Raises UsageError for no parts, DataError for parts of different frames or classes, or where only some have ids.
        """
        parts = arguments.parts_of(Instances, parts)
        first: Instances = parts[0]
        for what in ("frame_hw", "class_names", "category_ids"):
            if any(getattr(part, what) != getattr(first, what) for part in parts):
                raise DataError(f"Instances can be joined only with the same {what}: move or relabel them first.")
        ids = [part.ids for part in parts if part.ids is not None]
        if 0 < len(ids) < len(parts):
            raise DataError("Some of the instances to join have track ids and some have none: give all of them ids.")
        return dataclasses.replace(
            first,
            boxes=np.concatenate([part.boxes for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            masks=BoxMasks.concatenate([part.masks for part in parts]),
            ids=np.concatenate(ids) if ids else None,
        )

    def best_first(self) -> Instances:
        """The same, by falling score; equal scores stay in their order."""
        return self.select(np.argsort(-self.scores, kind="stable"))

    def plot(self, frame: NDArray[np.uint8], style: DrawStyle = DEFAULT_STYLE) -> NDArray[np.uint8]:
        """The frame uint8 [H, W, 3] BGR with the instances drawn on a copy of it. Raises DataError, UsageError."""
        return draw(frame, self, style)

    def save(self, path: str | Path, frame: NDArray[np.uint8], style: DrawStyle = DEFAULT_STYLE) -> Path:
        """Writes what plot gives to a .png or .jpg -> its path. Raises DataError, UsageError, CenterMaskError."""
        return write_picture(arguments.path_of(path, "A picture"), self.plot(frame, style))

    def crops(
        self, frame: NDArray[np.uint8], background: Literal["keep", "transparent"] | tuple[int, int, int] = "keep"
    ) -> list[NDArray[np.uint8]]:
        """Each instance cut out of the frame uint8 [H, W, 3] BGR by its mask's rectangle: N arrays uint8 [h, w, 3].

        background: what becomes of the pixels outside the mask. "keep" leaves them, "transparent" gives [h, w, 4] BGRA
        with alpha 0 there, and a colour (b, g, r) paints them. Raises DataError, UsageError.

            for number, cutout in enumerate(found.crops(image, "transparent")):
                cv2.imwrite(f"{number}.png", cutout)
        """
        check_frame(frame, self.frame_hw)
        if not (isinstance(background, str) and background in ("keep", "transparent")) and not _is_colour(background):
            raise UsageError(
                f"background must be 'keep', 'transparent' or a colour (b, g, r) of 0 to 255, not "
                f"{arguments.short(background)}."
            )
        cut = []
        for index, (x0, y0, x1, y1) in enumerate(self.masks.rects.tolist()):
            crop, mask = frame[y0:y1, x0:x1].copy(), self.masks.crop(index)
            if background == "transparent":
                crop = np.dstack((crop, mask * np.uint8(255)))
            elif background != "keep":
                crop[~mask] = background
            cut.append(crop)
        return cut

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results: a dict per instance with the data set's category id, bbox as xywh, segmentation as run lengths.

        Those with a confirmed track have a track_id too. Raises UsageError for an image_id that is no whole number.
        """
        image_id = arguments.whole("image_id", image_id, 0)
        boxes = self.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        results: list[dict[str, Any]] = [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": [round(edge, 3) for edge in box.tolist()],
                "score": round(float(score), 6),
                "segmentation": counts,
            }
            for box, score, label, counts in zip(boxes, self.scores, self.labels, self.masks.rles(), strict=True)
        ]
        self._add_track_ids(results)
        return results

    def to_json(self, masks: Literal["polygons", "rle", "none"] = "polygons") -> str:
        """The instances as one line of JSON, in their order, with boxes and vertices in source pixels.

            {"height": 480, "width": 640, "instances": [{"name": "cat", "label": 0, "category_id": 17, "score": 0.93,
             "box": [x1, y1, x2, y2], "track_id": 7, "polygons": [{"outer": [[x, y], ...], "holes": [[[x, y], ...]]}]}]}

        track_id is there only with a confirmed track. masks: "polygons" gives those of BoxMasks.polygons, exact with
        holes; "rle" gives an entry "rle" of COCO run lengths, {"size": [height, width], "counts": "..."}, instead; and
        "none" gives neither. Raises UsageError.
        """
        if not isinstance(masks, str) or masks not in ("polygons", "rle", "none"):
            raise UsageError(f"masks must be 'polygons', 'rle' or 'none', not {arguments.short(masks)}.")
        entries: list[dict[str, Any]] = [
            {
                "name": name,
                "label": label,
                "category_id": self.category_ids[label],
                "score": round(score, 6),
                "box": [round(edge, 3) for edge in box],
            }
            for name, label, score, box in zip(
                self.names, self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True
            )
        ]
        self._add_track_ids(entries)
        if masks == "rle":
            for entry, counts in zip(entries, self.masks.rles(), strict=True):
                entry["rle"] = counts
        elif masks == "polygons":
            for entry, pieces in zip(entries, self.masks.polygons(), strict=True):
                entry["polygons"] = [
                    {"outer": piece.outer.tolist(), "holes": [hole.tolist() for hole in piece.holes]}
                    for piece in pieces
                ]
        return json.dumps({"height": self.frame_hw[0], "width": self.frame_hw[1], "instances": entries})

    def _add_track_ids(self, entries: list[dict[str, Any]]) -> None:
        """Objects without a confirmed track get none: their common -1 would make them one object."""
        for entry, track in zip(entries, [] if self.ids is None else self.ids.tolist(), strict=False):
            if track >= 0:
                entry["track_id"] = track

    def to_dataframe(self) -> Any:
        """A pandas.DataFrame with a row per instance: name, label, category_id, score, x1, y1, x2, y2, area in pixels.

        With track ids there is a column track_id too. Raises UsageError where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UsageError("pandas is needed for to_dataframe: pip install pandas.") from error
        columns: dict[str, Any] = {
            "name": self.names,
            "label": self.labels,
            "category_id": [self.category_ids[label] for label in self.labels.tolist()],
            "score": self.scores,
            **{edge: self.boxes[:, place] for place, edge in enumerate(("x1", "y1", "x2", "y2"))},
            "area": self.masks.areas(),
        }
        return pandas.DataFrame(columns if self.ids is None else {**columns, "track_id": self.ids})

    def to_supervision(self) -> Any:
        """The same as a supervision.Detections, whose masks are whole frames. Raises UsageError without supervision."""
        try:
            import supervision
        except ImportError as error:
            raise UsageError("supervision is needed for to_supervision: pip install supervision.") from error
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks.canvases(),
            confidence=self.scores,
            class_id=self.labels.astype(int),
            tracker_id=None if self.ids is None else self.ids.astype(int),
            data={"class_name": np.array(self.names, dtype=str)},
        )


def _is_colour(background: Any) -> bool:
    """Whether it is (b, g, r)."""
    if not isinstance(background, (tuple, list)) or len(background) != 3:
        return False
    return all(isinstance(part, (int, np.integer)) and 0 <= part <= 255 for part in background)

# SPDX-License-Identifier: Apache-2.0
"""Instances: the one result type. Masks stay small: one bit-packed crop an object, full canvases only on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.reference import rle


@dataclass(frozen=True)
class BoxMasks:
    """N binary masks as crops of one frame.

    rects   int32 [N, 4]: x0, y0, x1, y1 in whole source pixels, in the frame; an empty mask has x0 == x1 or y0 == y1.
    packed  N arrays uint8 [h, ceil(w / 8)]: rows of bits, little bit order (bit i of byte b is pixel 8 b + i).
    """

    frame_hw: tuple[int, int]
    rects: NDArray[np.int32]
    packed: tuple[NDArray[np.uint8], ...]

    def __len__(self) -> int:
        return len(self.packed)

    @classmethod
    def from_crops(
        cls, frame_hw: tuple[int, int], rects: NDArray[np.int32], crops: Sequence[NDArray[np.bool_]]
    ) -> BoxMasks:
        return cls(frame_hw, rects, tuple(np.packbits(crop, axis=1, bitorder="little") for crop in crops))

    @classmethod
    def empty(cls, frame_hw: tuple[int, int]) -> BoxMasks:
        return cls(frame_hw, np.zeros((0, 4), np.int32), ())

    def crop(self, index: int) -> NDArray[np.bool_]:
        """Mask `index` inside its rectangle, bool [h, w]."""
        x0, y0, x1, y1 = (int(edge) for edge in self.rects[index])
        if x1 <= x0 or y1 <= y0:
            return np.zeros((max(y1 - y0, 0), max(x1 - x0, 0)), np.bool_)
        return np.unpackbits(self.packed[index], axis=1, count=x1 - x0, bitorder="little").view(np.bool_)

    def canvas(self, index: int) -> NDArray[np.bool_]:
        """Mask `index` on the whole frame, bool [H, W]."""
        full = np.zeros(self.frame_hw, np.bool_)
        x0, y0, x1, y1 = self.rects[index]
        full[y0:y1, x0:x1] = self.crop(index)
        return full

    def canvases(self) -> NDArray[np.bool_]:
        """All masks on the whole frame, bool [N, H, W]. N full frames of memory: ask only when needed."""
        full = np.zeros((len(self), *self.frame_hw), np.bool_)
        for canvas, (x0, y0, x1, y1), index in zip(full, self.rects, range(len(self)), strict=True):
            canvas[y0:y1, x0:x1] = self.crop(index)
        return full

    def areas(self) -> NDArray[np.int64]:
        """Pixels in each mask, int64 [N]."""
        return np.array([int(self.crop(i).sum()) for i in range(len(self))], np.int64)

    def rles(self) -> list[dict[str, Any]]:
        """COCO run lengths, equal byte for byte to pycocotools.mask.encode of the canvases (counts as str)."""
        return [rle.encode_crop(self.crop(i), self.rects[i], self.frame_hw) for i in range(len(self))]

    def select(self, keep: NDArray[np.intp]) -> BoxMasks:
        return BoxMasks(self.frame_hw, self.rects[keep], tuple(self.packed[i] for i in keep))


@dataclass(frozen=True)
class Instances:
    """What was found in one frame, best first.

    boxes   float32 [N, 4]  xyxy, source pixels, inside the frame
    scores  float32 [N]
    labels  int32 [N]       index into class_names
    masks   BoxMasks of N
    ids     int64 [N]       track ids, the same for one object in all frames; None where nobody tracks
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
        n = len(self.scores)
        assert self.boxes.shape == (n, 4) and self.labels.shape == (n,) and len(self.masks) == n, (
            self.boxes.shape,
            self.scores.shape,
            self.labels.shape,
            len(self.masks),
        )
        assert self.ids is None or self.ids.shape == (n,), (self.ids, n)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Instances]:
        return (self.select(np.array([i])) for i in range(len(self)))

    @property
    def names(self) -> list[str]:
        """The class name of each instance."""
        return [self.class_names[label] for label in self.labels.tolist()]

    def select(self, keep: NDArray[Any]) -> Instances:
        """The instances of a boolean mask or of indices, in that order."""
        keep = np.flatnonzero(keep) if keep.dtype == np.bool_ else keep
        return Instances(
            self.frame_hw,
            self.boxes[keep],
            self.scores[keep],
            self.labels[keep],
            self.masks.select(keep),
            self.class_names,
            self.category_ids,
            None if self.ids is None else self.ids[keep],
        )

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results: one dict an instance with the data set's category id, bbox as xywh, segmentation as RLE."""
        boxes = self.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return [
            {
                "image_id": image_id,
                "category_id": self.category_ids[label],
                "bbox": [round(edge, 3) for edge in box.tolist()],
                "score": round(float(score), 6),
                "segmentation": counts,
            }
            for box, score, label, counts in zip(boxes, self.scores, self.labels, self.masks.rles(), strict=True)
        ]

    def to_supervision(self) -> Any:
        """The same result as a supervision.Detections (needs `pip install supervision`)."""
        import supervision  # type: ignore[import-not-found, unused-ignore]

        names = np.array([self.class_names[label] for label in self.labels], dtype=str)
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks.canvases(),
            confidence=self.scores,
            class_id=self.labels.astype(int),
            data={"class_name": names},
        )

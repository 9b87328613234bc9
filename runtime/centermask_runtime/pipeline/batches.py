# SPDX-License-Identifier: Apache-2.0
"""Which frames go through a network together: those of one size and one colour format, up to the network's batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from centermask_runtime.images import check_frame
from centermask_runtime.pipeline.frame import AnyFrame
from centermask_runtime.reference.nv12 import Nv12Frame, YuvMatrix


class FrameKind(NamedTuple):
    """What the frames of a batch have in common."""

    frame_hw: tuple[int, int]
    matrix: YuvMatrix | None  # of NV12; None for BGR


def kind_of(frame: AnyFrame) -> FrameKind:
    """Raises DataError for what is no frame."""
    if isinstance(frame, Nv12Frame):
        return FrameKind(frame.frame_hw, frame.matrix)
    check_frame(frame)
    return FrameKind((frame.shape[0], frame.shape[1]), None)


def in_batches(frames: Iterable[AnyFrame], size: int) -> Iterator[list[AnyFrame]]:
    """Frames in their order, those in a row that are of one kind together, at most `size` of them.

    A frame is kept as a copy while others are awaited, because a source may fill the same array again. So with size 1
    nothing is copied, and each frame comes before the next one is asked for.
    """
    batch: list[AnyFrame] = []
    for frame in frames:
        if batch and kind_of(frame) != kind_of(batch[0]):
            yield batch
            batch = []
        batch.append(frame if size == 1 else _copy(frame))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def together(frames: Sequence[AnyFrame], size: int) -> list[list[int]]:
    """The places of frames that go together, wherever they are: at most `size` each, of one kind."""
    of_kind: dict[FrameKind, list[int]] = {}
    for place, frame in enumerate(frames):
        of_kind.setdefault(kind_of(frame), []).append(place)
    return [places[first : first + size] for places in of_kind.values() for first in range(0, len(places), size)]


def _copy(frame: AnyFrame) -> AnyFrame:
    return Nv12Frame(frame.pixels.copy(), frame.matrix) if isinstance(frame, Nv12Frame) else np.array(frame)

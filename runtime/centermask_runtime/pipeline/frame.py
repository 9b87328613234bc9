# SPDX-License-Identifier: Apache-2.0
"""What every pipeline is to those who give frames and take Instances, and how a frame fits a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.geometry import Letterbox
from centermask_runtime.images import check_frame
from centermask_runtime.instances import Instances
from centermask_runtime.reference.nv12 import Nv12Frame
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle
from centermask_runtime.selection import Selection
from centermask_runtime.spec import ModelSpec

AnyFrame = NDArray[np.uint8] | Nv12Frame  # what a pipeline takes: uint8 [H, W, 3] BGR, or NV12


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one frame, stage by stage: of the wall clock on a CPU, of the GPU's events on a GPU."""

    preprocess_ms: float
    network_ms: float
    postprocess_ms: float
    total_ms: float


class FramePipeline(Protocol):
    """What Pipeline and GpuPipeline are to those who give frames and take Instances. Safe from several threads.

    Every method raises DataError for what is no frame, and UsageError after close().
    """

    spec: ModelSpec
    selection: Selection
    draws: bool  # whether `drawn` is quicker than drawing what `each` gives

    @property
    def description(self) -> str:
        """The network's back end and device, in words."""
        ...

    def __call__(self, frame: AnyFrame) -> Instances:
        """What is in one frame."""
        ...

    def each(self, frames: Iterable[AnyFrame], *, ahead: bool = False) -> Iterator[Instances]:
        """What is in each frame, in their order, with as many under way as the pipeline can.

        ahead: a result may come after the next frame was taken, where that is quicker.
        """
        ...

    def many(self, frames: Sequence[AnyFrame]) -> list[Instances]:
        """What is in each of a few frames that are all there, in one run of the network where its batch allows."""
        ...

    def timed(self, frame: AnyFrame) -> tuple[Instances, StageTimes | None]:
        """What is in one frame, and the time of each stage where the pipeline takes them."""
        ...

    def drawn(
        self, frames: Iterable[AnyFrame], style: DrawStyle = DEFAULT_STYLE
    ) -> Iterator[tuple[Instances, NDArray[np.uint8]]]:
        """What is in each frame, and a picture uint8 [H, W, 3] BGR of it, in their order; as `each`."""
        ...

    def close(self) -> None:
        """Gives back what the pipeline holds. Twice is as once."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class FrameFit:
    """How a frame is fitted into the network input; computed once per frame size. Raises DataError for no frame."""

    def __init__(self, input_hw: tuple[int, int]) -> None:
        self._input_hw = input_hw
        self._last: Letterbox | None = None

    def __call__(self, frame: AnyFrame) -> Letterbox:
        if isinstance(frame, Nv12Frame):
            frame_hw = frame.frame_hw
        else:
            check_frame(frame)
            frame_hw = frame.shape[0], frame.shape[1]
        last = self._last  # read once: another thread may change it
        if last is None or last.frame_hw != frame_hw:
            self._last = last = Letterbox.fit(frame_hw, self._input_hw)
        return last


def as_bgr(frame: AnyFrame) -> NDArray[np.uint8]:
    """The frame as uint8 [H, W, 3] BGR."""
    return frame.to_bgr() if isinstance(frame, Nv12Frame) else frame

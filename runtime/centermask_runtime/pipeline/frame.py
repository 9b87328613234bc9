# SPDX-License-Identifier: Apache-2.0
"""What every pipeline is to those who give frames and take Instances, and how a frame fits a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.geometry import Letterbox
from centermask_runtime.images import check_frame
from centermask_runtime.instances import Instances
from centermask_runtime.reference.nv12 import Nv12Frame
from centermask_runtime.spec import ModelSpec

AnyFrame = NDArray[np.uint8] | Nv12Frame  # what a pipeline takes: uint8 [H, W, 3] BGR, or NV12


@dataclass(frozen=True)
class StageTimes:
    """Wall-clock milliseconds of one frame."""

    preprocess_ms: float
    network_ms: float
    postprocess_ms: float
    total_ms: float


class FramePipeline(Protocol):
    """What Pipeline and GpuPipeline are to those who give frames and take Instances."""

    spec: ModelSpec
    timings: StageTimes | None  # of the last frame, where they are taken

    @property
    def description(self) -> str:
        """The network's back end and device, in words."""
        ...

    def __call__(self, frame: AnyFrame) -> Instances: ...


class FrameFit:
    """How a frame is fitted into the network input; computed once a frame size. Raises DataError for no frame."""

    def __init__(self, input_hw: tuple[int, int]) -> None:
        self._input_hw = input_hw
        self._last: Letterbox | None = None

    def __call__(self, frame: AnyFrame) -> Letterbox:
        if isinstance(frame, Nv12Frame):
            frame_hw = frame.frame_hw
        else:
            check_frame(frame)
            frame_hw = frame.shape[0], frame.shape[1]
        if self._last is None or self._last.frame_hw != frame_hw:
            self._last = Letterbox.fit(frame_hw, self._input_hw)
        return self._last


def as_bgr(frame: AnyFrame) -> NDArray[np.uint8]:
    """The frame as uint8 [H, W, 3] BGR."""
    return frame.to_bgr() if isinstance(frame, Nv12Frame) else frame

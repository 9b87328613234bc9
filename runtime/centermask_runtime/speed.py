# SPDX-License-Identifier: Apache-2.0
"""How fast a pipeline is, stage by stage: what is timed, and how it is summed up.

Timed: letterbox, network, and everything up to bit-packed masks at source resolution, one frame at a time (batch 1), by
the wall clock. Not timed: decoding the video, drawing, encoding. The first frames warm up and do not count. A GPU
pipeline has times of its stages only where it is told to take them, which makes the whole slower.
"""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.pipeline.frame import FramePipeline, StageTimes

REPORTED_FPS = 25.2  # CenterMask, DLA-34 at 512 x 512, arXiv 2004.04446
REPORTED_ON = "a GPU we could not establish"
STAGES = tuple(field.name.removesuffix("_ms") for field in dataclasses.fields(StageTimes))


@dataclass(frozen=True)
class StageSummary:
    stage: str
    median_ms: float
    p95_ms: float


@dataclass(frozen=True)
class SpeedReport:
    model: str
    network: str  # back end and device, in words
    precision: str
    input_hw: tuple[int, int]
    frame_hw: tuple[int, int]
    frames: int
    objects_median: float
    objects_max: int
    stages: tuple[StageSummary, ...]
    machine: dict[str, str]

    @property
    def has_stage_times(self) -> bool:
        """Whether the pipeline took the times of its stages, not only of the whole."""
        return any(stage.stage != "total" for stage in self.stages)

    @property
    def fps(self) -> float:
        """Frames a second at the median total time."""
        return 1e3 / next(stage.median_ms for stage in self.stages if stage.stage == "total")

    def with_stages_of(self, staged: SpeedReport) -> SpeedReport:
        """This total with the stages of another measurement, of a pipeline that took their times."""
        stages = (*(stage for stage in staged.stages if stage.stage != "total"), self.stages[-1])
        network = f"{self.network}; stages are GPU times of a second pass without a graph"
        return dataclasses.replace(self, network=network, stages=stages)

    def to_dict(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self),
            "fps": round(self.fps, 2),
            "reported_fps": REPORTED_FPS,
            "reported_on": REPORTED_ON,
            "ratio_to_reported": round(self.fps / REPORTED_FPS, 3),
        }


def measure(
    pipeline: FramePipeline, frames: Iterable[NDArray[np.uint8]], *, warmup: int = 5, limit: int | None = None
) -> SpeedReport:
    """Runs the pipeline over frames uint8 [H, W, 3] BGR of one size; at most `limit` count after `warmup`."""
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}
    objects: list[int] = []
    frame_hw = (0, 0)
    for index, frame in enumerate(frames):
        start = time.perf_counter()
        found, stages = pipeline.timed(frame)
        taken = {"total_ms": (time.perf_counter() - start) * 1e3}
        if index < warmup:
            continue
        if stages is not None:
            taken = dataclasses.asdict(stages)
        for name, value in taken.items():
            times[name.removesuffix("_ms")].append(value)
        objects.append(len(found))
        frame_hw = frame.shape[0], frame.shape[1]
        if limit is not None and len(objects) == limit:
            break
    if not objects:
        raise DataError(
            f"The source has no frame left to time after {warmup} to warm up; give a longer one, or warm up with fewer."
        )
    summaries = [
        StageSummary(stage, round(float(np.median(values)), 3), round(float(np.percentile(values, 95)), 3))
        for stage, values in times.items()
        if values
    ]
    spec = pipeline.spec
    return SpeedReport(
        spec.name, pipeline.description, spec.precision, spec.input_hw, frame_hw, len(objects),
        float(np.median(objects)), max(objects), tuple(summaries), machine(),
    )  # fmt: skip


def machine() -> dict[str, str]:
    """What a number depends on besides the code: processor, system, library versions."""
    return {
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} threads" if names else platform.processor() or "unknown"

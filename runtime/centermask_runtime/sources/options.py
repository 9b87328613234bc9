# SPDX-License-Identifier: Apache-2.0
"""Which frames of a source are taken, and how patient it is with a live one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, TypedDict

from centermask_runtime.arguments import number, whole
from centermask_runtime.errors import UsageError, shown

MOST_STRIDE, MOST_FRAMES = 10**6, 10**12  # rates and counts of more digits are no numbers for FFmpeg
Transport = Literal["tcp", "udp"]

AT_OPENING = "it is given where the model is opened, CenterMask(model, {name}=...)"
ELSEWHERE = {  # keyword arguments that other libraries' calls have, and what to do here
    **{
        name: AT_OPENING.format(name=name)
        for name in ("conf", "classes", "max_det", "mask_threshold", "device", "threads", "tile", "overlap")
    },
    "stream": "results of videos always come one by one",
    "save": "results have save(folder)",
    "persist": "one call of track keeps its ids, and a Tracker keeps them in a loop of your own",
    "tracker": "there is one kind of tracking",
}


class SourceWords(TypedDict, total=False):
    """The keyword arguments of SourceOptions."""

    vid_stride: int
    start: float
    end: float | None
    max_frames: int | None
    realtime: bool
    stall: float
    give_up: float | None
    transport: Transport
    notice: Callable[[str], None] | None


@dataclass(frozen=True)
class SourceOptions:
    """Which frames of each source are taken; images know only max_frames. Raises UsageError for what makes no sense.

    >>> SourceOptions(vid_stride=2, start=10, end=20).frames_of(1000, 25)
    125
    """

    vid_stride: int = 1  # of a video: each frame, each second one, ...
    start: float = 0.0  # seconds from the beginning of a video
    end: float | None = None  # seconds; the frame that is shown then is not taken any more
    max_frames: int | None = None  # of each source
    realtime: bool = False  # of live ones: always the newest frame, else those that a queue holds
    stall: float = 10.0  # seconds without a picture after which a stream is opened again
    give_up: float | None = None  # seconds without a picture after which a stream is left; None for never
    transport: Transport = "tcp"  # of RTSP
    notice: Callable[[str], None] | None = None  # is told, from another thread, when a stream is lost and back

    def __post_init__(self) -> None:
        whole("vid_stride", self.vid_stride, 1, MOST_STRIDE)
        number("start", self.start, 0, 1e9)
        number("stall", self.stall, 0.1, 1e6)
        if self.end is not None and number("end", self.end, 0, 1e9) <= self.start:
            raise UsageError(f"The end, {self.end:g} s, must come after the start, {self.start:g} s.")
        if self.max_frames is not None:
            whole("max_frames", self.max_frames, 1, MOST_FRAMES)
        if self.give_up is not None:
            number("give_up", self.give_up, 0, 1e9)
        if self.transport not in ("tcp", "udp"):
            raise UsageError(f"transport must be tcp or udp, not {self.transport!r}.")

    @classmethod
    def of(cls, words: SourceWords) -> SourceOptions:
        """Those of a call's keyword arguments. Raises UsageError for one that there is not, as other libraries have."""
        known = [one.name for one in fields(cls)]
        other = next((word for word in words if word not in known), None)
        if other is not None:
            advice = f"; {ELSEWHERE[other]}" if other in ELSEWHERE else ""
            raise UsageError(f"A call takes {', '.join(known)}, and not {shown(other)!r}{advice}.")
        return cls(**words)

    def is_over(self, time_s: float) -> bool:
        """Whether a frame of this time and all after it are too late."""
        return self.end is not None and time_s >= self.end

    def frames_of(self, count: int | None, fps: float) -> int | None:
        """How many of a video's frames are taken, about; None where nobody knows how many it has."""
        if count is None:
            return self.max_frames if self.end is None else None
        last = count if self.end is None else min(count, round(self.end * fps))
        taken = -(-max(0, last - round(self.start * fps)) // self.vid_stride)
        return taken if self.max_frames is None else min(taken, self.max_frames)

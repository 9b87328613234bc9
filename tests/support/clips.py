# SPDX-License-Identifier: Apache-2.0
"""Films as cameras, phones and editors make them, each with the times at which its pictures are to be shown."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.support.small_pictures import picture

SIZE_HW = (48, 64)
COUNT = 40
EVEN_MS = tuple(range(0, 40 * COUNT, 40))
UNEVEN_MS = tuple(int(time) for time in np.cumsum([0, *np.random.default_rng(0).integers(15, 90, COUNT - 1)]))


def write(
    path: Path, *, size_hw=SIZE_HW, times_ms=EVEN_MS, codec="libx264", pixels="yuv420p", options=None, turn=None,
    sound=False, start_ms=0,
) -> list[float]:  # fmt: skip
    """Writes a film -> the times of its pictures in seconds, from the first one. sound: begins 0.5 s earlier."""
    height, width = size_hw
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=16000) if sound else None
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        if turn is not None:
            stream.set_display_rotation(turn)
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts, silence.time_base = 16000, 0, Fraction(1, 16000)
            container.mux(audio.encode(silence))
            start_ms += 500
        for index, time_ms in enumerate(times_ms):
            image = av.VideoFrame.from_ndarray(picture(index % 12, size_hw), format="bgr24")
            image.pts, image.time_base = start_ms + time_ms, Fraction(1, 1000)
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
        if audio is not None:
            container.mux(audio.encode(None))
    return [time_ms / 1000 for time_ms in times_ms]


FILMS = {
    "even.mp4": {},
    "uneven.mp4": {"times_ms": UNEVEN_MS},
    "uneven.mkv": {"times_ms": UNEVEN_MS},
    "b_frames.mp4": {"options": {"bf": "3", "g": "12", "b_strategy": "0"}},
    "open_gop.mp4": {"options": {"bf": "2", "x264-params": "open-gop=1:keyint=8:min-keyint=8:scenecut=0"}},
    "open_gop.ts": {"options": {"bf": "2", "x264-params": "open-gop=1:keyint=8:min-keyint=8:scenecut=0"}},
    "interlaced.mp4": {"options": {"x264-params": "interlaced=1:tff=1"}, "size_hw": (64, 64)},
    "ten_bits.mp4": {"pixels": "yuv420p10le"},
    "odd_444.mp4": {"pixels": "yuv444p", "size_hw": (47, 61)},
    "odd_vp9.webm": {"codec": "libvpx-vp9", "size_hw": (47, 61), "options": {"cpu-used": "8", "deadline": "realtime"}},
    "sound_first.mp4": {"sound": True},
    "late_start.ts": {"start_ms": 90_000},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"qmin": "2", "qmax": "4"}},
}

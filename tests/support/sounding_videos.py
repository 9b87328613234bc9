# SPDX-License-Identifier: Apache-2.0
"""Videos with sound: a tone that says when it is heard, in several codecs and containers; and how to look at videos."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.sinks.video import VideoSink
from centermask_runtime.sources.video import VideoSource
from tests.support.small_pictures import SIZE_HW, picture

RATE = 48_000  # samples per second
MS = Fraction(1, 1000)


def write_sounding(
    path, times_ms, *, sound="aac", tone_s=(1.0, 1.2), sound_from_s=0.0, sound_s=3.0, size_hw=SIZE_HW,
    pixels="yuv420p", aspect=None, turned=None, codec="libx264",
):  # fmt: skip
    """A video with a picture at each of times_ms, and a tone between tone_s, on the clock of the pictures."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.height, video.width = size_hw
        video.pix_fmt = pixels
        video.codec_context.time_base = MS
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if turned is not None:
            video.set_display_rotation(turned)
        if sound is not None:
            voice = container.add_stream(sound, rate=RATE)
            voice.codec_context.layout = "stereo"
        for index, time_ms in enumerate(times_ms):
            frame = av.VideoFrame.from_ndarray(picture(index, size_hw), format="bgr24").reformat(format=pixels)
            frame.pts, frame.time_base = time_ms, MS
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            for frame in _tone(voice.codec_context, tone_s, sound_from_s, sound_s):
                container.mux(voice.encode(frame))
            container.mux(voice.encode(None))
    return path


def _tone(context, tone_s, from_s, length_s):
    times = np.arange(int(length_s * RATE)) / RATE + from_s
    loud = (times >= tone_s[0]) & (times < tone_s[1])
    wave = (np.sin(2 * np.pi * 1000 * times) * 12_000 * loud).astype(np.int16)
    layout = context.layout.name
    resampler = av.AudioResampler(format=context.codec.audio_formats[0].name, layout=layout, rate=RATE, frame_size=1024)
    for start in range(0, len(wave), 4096):
        both = np.repeat(wave[start : start + 4096], 2)[None]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(both), format="s16", layout="stereo")
        frame.rate, frame.pts, frame.time_base = RATE, start + round(from_s * RATE), Fraction(1, RATE)
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def drawn_again(path, target, keep=lambda frame: True, **options):
    """The video through VideoSource and VideoSink, nothing drawn on it -> the sink's notes."""
    nothing = Instances(
        SIZE_HW, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), BoxMasks.empty(SIZE_HW),
        ("cell",), (1,),
    )  # fmt: skip
    with VideoSource(path) as source, VideoSink(target, source.info, **options) as sink:
        for frame in source:
            if keep(frame):
                sink.add(frame, nothing, frame.image)
    return sink.notes


def picture_times_ms(path):
    """When each picture is shown, counted from the first."""
    with av.open(str(path)) as container:
        times = [float(frame.time) * 1000 for frame in container.decode(video=0)]
    return [time - times[0] for time in times]


def first_picture_s(path):
    with av.open(str(path)) as container:
        return float(next(container.decode(video=0)).time)


def tone_s(path):
    """When the tone begins and ends, in seconds after the first picture."""
    with av.open(str(path)) as container:
        loud = []
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray().astype(float)
            planes = samples.reshape(1, -1, 2).max(-1) if samples.shape[0] == 1 else samples.max(0, keepdims=True)
            limit = 0.1 if frame.format.name.startswith("flt") else 3000
            at = np.flatnonzero(np.abs(planes[0]) > limit)
            loud += [float(frame.time) + place / frame.sample_rate for place in at[[0, -1]]] if len(at) else []
    first = first_picture_s(path)
    return min(loud) - first, max(loud) - first


def streams_of(path):
    """(kind, codec) of each stream."""
    with av.open(str(path)) as container:
        return [(stream.type, stream.codec_context.name) for stream in container.streams]

# SPDX-License-Identifier: Apache-2.0
"""An MP4 file that is whole at any time: it is written in fragments, and put in order when it is finished.

A fragment has its own index, so a file of some fragments plays. What is finished has one index, at the beginning, so
that a browser begins to play before it has all. Where a full disk stops the writing, the whole fragments stay.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from centermask_runtime.sources.decoding import pyav

TRACK_TICKS = 90_000  # of a second; holds the common frame rates exactly or to 6 microseconds
FRAGMENT_S = 2
IN_FRAGMENTS = {
    "movflags": "+frag_keyframe+delay_moov+default_base_moof",
    "frag_duration": str(FRAGMENT_S * 1_000_000),
    "video_track_timescale": str(TRACK_TICKS),
}
IN_ORDER = {"movflags": "+faststart", "video_track_timescale": str(TRACK_TICKS)}


def put_in_order(fragments: Path, target: Path, frame_ticks: int, aspect: Fraction = Fraction(1)) -> None:
    """Copies a file of fragments, packet by packet, to one with its index at the beginning.

    frame_ticks: how long the last picture is shown. aspect: width by height of a pixel, which not every codec tells.
    Raises what PyAV raises, as when the disk is full.
    """
    av = pyav("writing a video")
    with av.open(str(fragments)) as source, av.open(str(target), "w", format="mp4", options=IN_ORDER) as ordered:
        streams = {stream.index: ordered.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        for stream in ordered.streams.video:
            stream.codec_context.sample_aspect_ratio = aspect
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video" and not packet.duration:
                packet.duration = frame_ticks  # else players leave the last picture out
            packet.stream = streams[packet.stream.index]
            ordered.mux(packet)


def require_whole(path: Path) -> None:
    """Raises OSError where the end of a finished file is missing: FFmpeg is silent when its last bytes find no room."""
    kinds, end = set(), 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for kind, after in _boxes(file, size):
            kinds.add(kind)
            end = after
    if end != size or not {b"moov", b"mdat"} <= kinds:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def cut_to_whole_fragments(path: Path) -> bool:
    """Cuts off what is not whole at the end of a file of fragments -> whether a picture is left."""
    end, has_fragment, head = 0, False, None
    with path.open("r+b") as file:
        for kind, after in _boxes(file, os.fstat(file.fileno()).st_size):
            if kind == b"mdat" and head == b"moof":
                has_fragment = True
            if kind != b"moof":  # without the data that follows it is worth nothing
                end = after
            head = kind
        file.truncate(end)
    return has_fragment


def _boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """The kinds of the boxes that are whole, and where each ends."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            large = file.read(8)
            length = struct.unpack(">Q", large)[0] if len(large) == 8 else 0
        if length < 8 or place + length > size:
            return
        place += length
        yield kind, place

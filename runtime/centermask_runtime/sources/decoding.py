# SPDX-License-Identifier: Apache-2.0
"""A container's pictures by PyAV, which is imported only here: opened with time-outs, decoded past what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError, first_line
from centermask_runtime.packages import need
from centermask_runtime.sources.addresses import is_address, public

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

OPEN_S = 15.0  # until an address answers
READ_S = 30.0  # until more of it comes
MOST_ERRORS = 20  # reading errors in a row after which nothing more can be expected


def pyav(purpose: str) -> Any:
    """The module av. Raises UsageError where it is not installed: only videos need it."""
    need("av", "video", purpose)
    import av

    return av


def open_container(
    source: str | Path, *, options: dict[str, str] | None = None, timeouts: tuple[float, float] = (OPEN_S, READ_S)
) -> InputContainer:
    """Opens a file or an address that has pictures in it. timeouts: seconds to open, and for each read; of addresses.

    Raises DataError, and UsageError where PyAV is missing.
    """
    path, address = Path(source), is_address(source)
    if not address and not path.is_file():
        reason = "it is a pipe, a socket or a device and no file" if path.exists() else "there is no such file"
        raise DataError(f"{public(source)} cannot be opened as a video ({reason}): check the path.")
    av = pyav("reading a video")
    try:
        container: InputContainer = av.open(
            str(source), options=options or {}, timeout=timeouts if address else None, metadata_errors="replace"
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        advice = "check the address and the connection" if address else "check the path and the format"
        raise DataError(f"{public(source)} cannot be opened as a video ({reason_of(error)}): {advice}.") from error
    if not container.streams.video or container.format.name == "tty":  # FFmpeg makes pictures of any .txt
        container.close()
        raise DataError(f"{public(source)} has no pictures in it, only sound or data: give a video.")
    if container.streams.video[0].codec_context is None:
        container.close()
        raise DataError(
            f"{public(source)} has pictures in a codec that is unknown here, or encrypted: encode it as H.264."
        )
    return container


def reason_of(error: BaseException) -> str:
    """What went wrong, in FFmpeg's words; a time-out is one."""
    av = pyav("reading a video")
    if isinstance(error, (av.ExitError, av.TimeoutError)):
        return "it did not answer in time"
    return getattr(error, "strerror", None) or first_line(error)


@dataclass
class Tally:
    """What came out of a container so far, and what was damaged in it."""

    packets: int = 0
    damaged: int = 0  # packets that could not be read or decoded, and pictures that were in part
    times_s: list[float] = field(default_factory=list)  # the least and the greatest of those, on its clock

    def add(self, time_s: float | None) -> None:
        """One more that is damaged."""
        self.damaged += 1
        if time_s is not None:
            self.times_s = [min([time_s, *self.times_s]), max([time_s, *self.times_s])]


def pictures(container: InputContainer, stream: VideoStream, tally: Tally) -> Iterator[VideoFrame | None]:
    """Every picture of a stream that can be decoded; None for a packet that gave none, so that a caller can look up.

    What is damaged is counted, and decoding goes on behind it. Raises FFmpegError where nothing more can be read.
    """
    av = pyav("reading a video")
    errors = 0
    while True:
        try:
            for packet in container.demux(stream):
                errors = 0
                tally.packets += packet.size > 0  # the last one only flushes the decoder
                try:
                    found = packet.decode()
                except av.EOFError:  # flushed already
                    return
                except (av.InvalidDataError, av.PatchWelcomeError, av.ExternalError, av.BugError):
                    tally.add(_time_of(packet))
                    continue
                if packet.is_corrupt:
                    tally.add(_time_of(packet))
                if not found:
                    yield None
                for picture in found:
                    assert isinstance(picture, av.VideoFrame)
                    if picture.is_corrupt:  # the decoder made up what is not there
                        tally.add(time_of(picture, stream))
                    yield picture
            return
        except av.InvalidDataError:
            errors += 1
            tally.add(None)
            if errors == MOST_ERRORS:
                yield from _flushed(stream, av)
                raise
        except av.FFmpegError:
            yield from _flushed(stream, av)
            raise


def _flushed(stream: VideoStream, av: Any) -> Iterator[VideoFrame]:
    """What the decoder still holds."""
    try:
        yield from stream.codec_context.decode(None)
    except av.FFmpegError:
        return


def time_of(picture: VideoFrame, stream: VideoStream) -> float | None:
    """When it is shown, in seconds of the container's clock; not picture.time, which is NaN behind a broken end."""
    return None if picture.pts is None or stream.time_base is None else float(picture.pts * stream.time_base)


def _time_of(packet: Packet[Any]) -> float | None:
    time = packet.pts if packet.pts is not None else packet.dts
    return None if time is None or packet.time_base is None else float(time * packet.time_base)


def to_bgr(picture: VideoFrame) -> NDArray[np.uint8]:
    """The picture uint8 [H, W, 3] BGR, turned as people see it, by the display matrix."""
    image = np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)
    turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image

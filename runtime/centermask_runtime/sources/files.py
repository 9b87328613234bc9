# SPDX-License-Identifier: Apache-2.0
"""Where frames come from: video files, images and folders of images, all as BGR arrays.

Orientation: frames are turned as people see them, so videos follow their display matrix and images their EXIF tag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from centermask_runtime.errors import DataError
from centermask_runtime.images import image_files, is_image, read_image

MISSING_PART = 0.02  # of a video's declared frames: containers may count a few that they do not hold


@dataclass(frozen=True)
class Frame:
    image: NDArray[np.uint8]  # [H, W, 3] BGR
    name: str  # of the image file, or the video's name and frame number
    index: int  # from 0
    time_s: float | None  # since the beginning of the video; None for images


@dataclass(frozen=True)
class VideoInfo:
    fps: Fraction
    count: int | None  # frames as declared; None where the container does not say
    size_hw: tuple[int, int]  # as decoded frames have it


def frames(source: str | Path, on_skip: Callable[[str], None] | None = None) -> Iterator[Frame]:
    """Frames of a video, an image or a folder of images (sorted by name).

    Raises DataError. An unreadable image in a folder does not end it: its sentence goes to `on_skip`, or is raised if
    there is none. A damaged video gives the frames before the damage, and then raises.
    """
    if is_stream(source):
        return video_frames(source)
    path = Path(source)
    if not path.exists():
        raise DataError(f"There is no file or folder {path}: check the path.")
    return image_frames(path, on_skip) if path.is_dir() or is_image(path) else video_frames(path)


def is_stream(source: str | Path) -> bool:
    """Whether FFmpeg opens it as an address, such as rtsp://camera/1."""
    return isinstance(source, str) and "://" in source


def is_video(source: str | Path) -> bool:
    """Whether `frames` will read it with a video decoder. Looks at the name, not at the content."""
    return is_stream(source) or (Path(source).is_file() and not is_image(Path(source)))


def image_frames(source: Path, on_skip: Callable[[str], None] | None = None) -> Iterator[Frame]:
    """One image, or all of a folder; an image that cannot be read as `frames` says. Raises DataError."""
    for index, path in enumerate(image_files(source) if source.is_dir() else [source]):
        try:
            image = read_image(path)
        except DataError as error:
            if on_skip is None or path is source:
                raise
            on_skip(str(error))
            continue
        yield Frame(image, path.name, index, None)


def video_info(source: str | Path) -> VideoInfo:
    """What a video declares, with the size of its first frame. Raises DataError."""
    with _open(source) as container:
        stream = container.streams.video[0]
        fps = stream.average_rate or stream.guessed_rate or Fraction(25)
        first = next(video_frames(source), None)
        if first is None:
            raise DataError(f"The video {source} holds no frame that can be decoded: it may be damaged.")
        return VideoInfo(Fraction(fps), stream.frames or None, (first.image.shape[0], first.image.shape[1]))


def video_frames(source: str | Path) -> Iterator[Frame]:
    """Every frame of a video's first picture stream, with the time at which it is shown. Raises DataError."""
    name = Path(source).stem
    index = packets = 0
    with _open(source) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start_s: float | None = None
        try:
            for packet in container.demux(stream):
                packets += packet.size > 0  # the last one only flushes the decoder
                for picture in packet.decode():
                    assert isinstance(picture, av.VideoFrame)
                    if picture.time is not None and start_s is None:
                        start_s = picture.time
                    image = np.asarray(picture.to_ndarray(format="bgr24"), np.uint8)
                    if turns := round(picture.rotation / 90) % 4:
                        image = np.ascontiguousarray(np.rot90(image, turns))
                    time_s = picture.time - start_s if picture.time is not None and start_s is not None else None
                    yield Frame(image, f"{name}_{index:06d}", index, time_s)
                    index += 1
        except av.FFmpegError as error:
            raise DataError(
                f"The video {source} is damaged or cut off after {index} frames ({error.strerror}): "
                "what came before was used; copy or encode it again."
            ) from error
        if packets < stream.frames * (1 - MISSING_PART):  # not pictures: a cut without re-encoding hides some
            raise DataError(
                f"The video {source} ends after {packets} of {stream.frames} frames: it is damaged or cut off; "
                "what there is was used; copy or encode it again."
            )


def _open(source: str | Path) -> av.container.InputContainer:
    try:
        container = av.open(str(source))
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{source} cannot be opened as a video ({reason}): check the path and the format.") from error
    if not container.streams.video:
        container.close()
        raise DataError(f"{source} has no pictures in it, only sound or data: give a video.")
    return container

# SPDX-License-Identifier: Apache-2.0
"""Anything that holds pictures -> a Source. What a file is, its content says, not its name."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.images import is_pil_image
from centermask_runtime.sources.addresses import Encoded, address_name, answer_of, is_address, public, scheme_of
from centermask_runtime.sources.arrays import ArraySource
from centermask_runtime.sources.decoding import open_container
from centermask_runtime.sources.files import FileSource, common_root
from centermask_runtime.sources.listing import entries_of_stdin, is_pattern
from centermask_runtime.sources.names import FrameNames
from centermask_runtime.sources.options import SourceOptions
from centermask_runtime.sources.parts import Part, parts_of, streams_of
from centermask_runtime.sources.sequence import Opener, SequenceSource
from centermask_runtime.sources.source import Frame, Source
from centermask_runtime.sources.streams import StreamsSource
from centermask_runtime.sources.video import VideoSource

if TYPE_CHECKING:
    from av.container import InputContainer

STDIN = "-"
WEB = ("http", "https")


def open_source(source: Any, options: SourceOptions | None = None) -> Source:
    """A Source of the frames of `source`, to be closed by `with`.

    source: the path of an image, a video, a folder of them or a list of paths (a text file); a pattern such as
    "photos/**/*.jpg"; "-" for paths on stdin; the address of an image, a video or a stream; the number of a camera;
    several of these; an array uint8 [H, W, 3] BGR or a PIL image; any iterable of those.
    options: which frames, and how patient with streams. Several streams are read at once, all else one after the other.
    Raises DataError where it cannot be read, UsageError where it is no source.

        with open_source("clip.mp4", SourceOptions(vid_stride=2)) as source:
            for frame in source:
                print(frame.name, frame.time_s, frame.image.shape)
    """
    options = options or SourceOptions()
    if isinstance(source, os.PathLike):
        source = Path(os.fsdecode(source))
    if isinstance(source, (str, Path)) or _is_number(source):
        return _of_words([source], options)
    if is_pil_image(source) or (isinstance(source, np.ndarray) and source.ndim < 4):
        return ArraySource([source])
    if isinstance(source, (list, tuple, set, frozenset, np.ndarray)) and not len(source):
        raise DataError("The list of images is empty: give at least one image.")
    if isinstance(source, (list, tuple)) and all(
        isinstance(part, (str, os.PathLike)) or _is_number(part) for part in source
    ):
        return _of_words(
            [Path(os.fsdecode(part)) if isinstance(part, os.PathLike) else part for part in source], options
        )
    if isinstance(source, Iterable) and not isinstance(source, (bytes, bytearray, memoryview, dict, Frame)):
        return ArraySource(source)
    raise UsageError(
        f"A source must be a path, an address, an image or an iterable of images, not {type(source).__name__}."
    )


def _is_number(source: Any) -> bool:
    return isinstance(source, (int, np.integer)) and not isinstance(source, bool)


def _of_words(words: list[str | Path | int], options: SourceOptions) -> Source:
    if words == [STDIN]:
        return SequenceSource(_as_they_come(options), "stdin")
    several = len(words) > 1
    if STDIN in words and not os.path.exists(STDIN):
        raise UsageError(f"The source {STDIN} reads paths from stdin and stands alone: write the others there, too.")
    streams = streams_of(words)
    if streams is None and several and all(_is_endless(word) for word in words):
        streams = [str(word) for word in words]
    if streams is not None:
        return StreamsSource(streams, options)
    found = [parts_of(word, alone=not several) for word in words]
    parts = [part for parts in found for part in parts.parts]
    left_out = tuple(path for parts in found for path in parts.left_out)
    if len(parts) == 1 and not left_out and not several and parts[0].kind != "image":
        return _open_one(parts[0], options, FrameNames())
    paths, root = common_root([part.path for part in parts if part.path is not None] or [Path("sources")])
    name = found[0].name if not several else root.resolve().name or "sources"
    if not several:
        root = found[0].root
    if all(part.kind == "image" for part in parts):
        own = paths if several else [part.path for part in parts if part.path is not None]
        return FileSource(own, name, root, left_out=left_out, max_frames=options.max_frames)
    files = tuple((part.path.name, part.path) for part in parts if part.path is not None)
    return SequenceSource(_openers(parts, root, options), name, files=files, left_out=left_out)


def _openers(parts: list[Part], root: Path, options: SourceOptions) -> Iterator[Opener]:
    """One for the images that follow each other, and one for each video and address."""
    for is_image, group in itertools.groupby(parts, lambda part: part.kind == "image"):
        if is_image:
            paths = [part.path for part in group if part.path is not None]
            yield partial(_open_images, paths, root, options)
        else:
            for part in group:
                yield partial(_open_one, part, options, root=root)


def _open_images(paths: list[Path], root: Path, options: SourceOptions, names: FrameNames) -> Source:
    below = all(path.is_relative_to(root) for path in paths)
    own, own_root = (paths, root) if below else common_root(paths)
    return FileSource(own, own_root.resolve().name, own_root, names=names, max_frames=options.max_frames)


def _open_one(part: Part, options: SourceOptions, names: FrameNames, root: Path | None = None) -> Source:
    """A video, or what is behind an address."""
    if part.path is not None:
        path = part.path
        below = path.relative_to(root) if root is not None and path.is_relative_to(root) else Path(path.name)
        return VideoSource(path, options, name=names.of_video(below.with_suffix("").as_posix()))
    assert part.address is not None
    if scheme_of(part.address) not in WEB:
        return VideoSource(part.address, options)
    found = _behind(part.address)
    if found is None:
        return StreamsSource([part.address], options, names)
    name = Path(address_name(part.address)).stem
    if isinstance(found, Encoded):
        return ArraySource([found], name, names)
    return VideoSource(part.address, options, name=names.of_video(name), container=found)


def _behind(address: str) -> Encoded | InputContainer | None:
    """The image or the video at an address of the web; None for a stream, which has no end. Raises DataError."""
    answer = answer_of(address)
    if answer.image is not None:
        return answer.image
    container = open_container(address)
    if container.duration is not None or (answer.has_end and container.format.name != "hls"):
        return container
    container.close()
    return None


def _is_endless(word: str | Path | int) -> bool:
    """Whether it is a stream of the web. What does not answer is none: it is told when it is its turn."""
    if not isinstance(word, str) or not is_address(word) or scheme_of(word) not in WEB:
        return False
    try:
        found = _behind(word)
    except DataError:
        return False
    if found is not None and not isinstance(found, Encoded):
        found.close()
    return found is None


def _as_they_come(options: SourceOptions) -> Iterator[Opener]:
    """Openers of what stdin names, each when it is there."""
    for word in entries_of_stdin():
        try:
            if streams_of([word]) is not None:
                raise DataError(f"{public(word)} is a stream, and stdin names files: give streams on the command line.")
            found = parts_of(word, alone=True)
        except DataError as error:
            yield partial(_refused, error)
        else:
            yield from _openers(list(found.parts), found.root, options)


def _refused(error: DataError, names: FrameNames) -> Source:
    raise error


def is_one_image(source: str | Path, opened: Source) -> bool:
    """Whether a source is the file or address of one image: no folder, pattern or list that happens to hold but one."""
    is_file = is_address(source) or (Path(source).is_file() and not is_pattern(str(source)))
    return is_file and opened.info.count == 1 and isinstance(opened, (FileSource, ArraySource))

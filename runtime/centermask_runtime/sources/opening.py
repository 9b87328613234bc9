# SPDX-License-Identifier: Apache-2.0
"""Anything that holds pictures -> a Source. What a file is, its content says, not its name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from centermask_runtime.errors import DataError, UsageError, first_line, shown
from centermask_runtime.images import is_image_file, is_pil_image
from centermask_runtime.sources.addresses import address_name, file_of, image_at, is_address
from centermask_runtime.sources.arrays import ArraySource
from centermask_runtime.sources.files import FileSource, is_pattern, matching_files, matching_images
from centermask_runtime.sources.source import Frame, Source
from centermask_runtime.sources.video import VideoSource


def open_source(source: Any) -> Source:
    """A Source of the frames of `source`, to be closed by `with`.

    source: the path of an image, a video or a folder of images; a pattern such as "photos/**/*.jpg"; the address of an
    image or a video; a list of paths; an array uint8 [H, W, 3] BGR or a PIL image; any iterable of those.
    Raises DataError where it cannot be read, UsageError where it is no source.

        with open_source("clip.mp4") as source:
            for frame in source:
                print(frame.name, frame.time_s, frame.image.shape)
    """
    if isinstance(source, os.PathLike):
        source = Path(os.fsdecode(source))
    if isinstance(source, (str, Path)):
        return _of_path(source)
    if is_pil_image(source) or (isinstance(source, np.ndarray) and source.ndim < 4):
        return ArraySource([source])
    if isinstance(source, (list, tuple)) and all(
        isinstance(part, os.PathLike) or (isinstance(part, str) and not is_address(part)) for part in source
    ):
        return FileSource.of_list([Path(os.fsdecode(part)) for part in source])
    if isinstance(source, (list, tuple, set, frozenset, np.ndarray)) and not len(source):
        raise DataError("The list of images is empty: give at least one image.")
    if isinstance(source, Iterable) and not isinstance(source, (bytes, bytearray, memoryview, dict, Frame)):
        return ArraySource(source)
    raise UsageError(
        f"A source must be a path, an address, an image or an iterable of images, not {type(source).__name__}."
    )


def _of_path(source: str | Path) -> Source:
    if isinstance(source, str) and source.lower().startswith("file://"):
        return _of_path(file_of(source))
    if isinstance(source, str) and is_address(source):
        image = image_at(source)
        if image is None:
            return VideoSource(source)
        name = address_name(source)
        return ArraySource([Frame(image, name, 0, None)], Path(name).stem)
    if is_pattern(str(source)):
        files = matching_files(str(source))
        return _of_path(files[0]) if len(files) == 1 else matching_images(str(source))
    path = Path(source)
    try:
        kind = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"There is no file or folder {shown(path)}: check the path.") from error
    except (OSError, ValueError) as error:  # too long, not allowed, or with a NUL
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{shown(path)} cannot be opened ({reason}): check the path.") from error
    if stat.S_ISDIR(kind):
        return FileSource.of_folder(path)
    if not stat.S_ISREG(kind):
        raise DataError(f"{shown(path)} is a pipe, a socket or a device: give a file, a folder or an address.")
    return FileSource.of_list([path]) if is_image_file(path) else VideoSource(path)

# SPDX-License-Identifier: Apache-2.0
"""Archives that nobody here made are unpacked: only plain files, only below the folder, each whole or not at all."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from centermask.data.download.transfer import ByteProgress
from centermask_runtime.errors import CenterMaskError, DataError, first_line
from centermask_runtime.partial_file import PartialFile

Member = tuple[str, int, bool, Callable[[], IO[bytes] | None]]  # name, bytes, is it a plain file, opens it


def extract(archive: Path, folder: Path, progress: ByteProgress) -> int:
    """Unpacks a .zip or .tar (also compressed) and returns the number of files; one of the same size is not replaced.

    Links, devices and names that lead out of `folder` raise DataError before anything is written. So does, at its file,
    damage that the archive's own checksums show: CRC-32 in a zip or gzip; a plain tar has none of its content.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                return _write(archive, folder, list(_zip_members(opened)), progress)
        with tarfile.open(archive) as opened:
            return _write(archive, folder, list(_tar_members(opened)), progress)
    except (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, tarfile.TarError, EOFError) as error:
        raise DataError(
            f"{archive} is damaged ({first_line(error).rstrip(':')}); remove it and download it again."
        ) from error
    except OSError as error:
        raise CenterMaskError(f"{archive} cannot be unpacked into {folder}: {error.strerror or error}.") from error


def _zip_members(opened: zipfile.ZipFile) -> Iterator[Member]:
    for info in opened.infolist():
        if info.is_dir():
            continue
        mode = info.external_attr >> 16 & 0o170000  # of Unix; 0 where the archive was made elsewhere
        yield info.filename, info.file_size, mode in (0, 0o100000), partial(opened.open, info)


def _tar_members(opened: tarfile.TarFile) -> Iterator[Member]:
    for info in opened:
        if not info.isdir():
            yield info.name, info.size, info.isreg(), partial(opened.extractfile, info)
    assert opened.fileobj is not None
    while opened.fileobj.read(1 << 20):  # to the very end, where gzip compares its checksum
        pass


def _write(archive: Path, folder: Path, members: list[Member], progress: ByteProgress) -> int:
    for name, _, plain, _ in members:
        path = PurePosixPath(name)
        if not plain or not path.parts or path.is_absolute() or ".." in path.parts or {"\\", ":"} & set(name):
            raise DataError(
                f"{archive} holds '{name}', a link or a name that leads out of the folder; it is not the archive it "
                "should be: remove it."
            )
    total = sum(size for _, size, _, _ in members)
    done = 0
    for name, size, _, open_member in members:
        place = folder / name
        if not (place.is_file() and place.stat().st_size == size):
            with PartialFile(place) as file, file.partial.open("wb") as target:
                source = open_member()
                assert source is not None, name  # a plain file
                with source:
                    shutil.copyfileobj(source, target, 1 << 20)
        done += size
        progress(f"unpack {archive.name}", done, total)
    return len(members)

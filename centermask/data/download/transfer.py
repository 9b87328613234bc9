# SPDX-License-Identifier: Apache-2.0
"""What COCO 2017, VOC 2012 and SBD consist of, and a transfer that can be broken off and goes on.

An archive grows as `<name>.part` and gets its name when its MD5 is the published one. MD5 tells damage, not forgery:
the servers speak plain HTTP. The sums are those of torchvision (VOC, SBD) and PaddleDetection (COCO).
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from centermask_runtime.errors import CenterMaskError, DataError, UsageError

ByteProgress = Callable[[str, int, int | None], None]  # what is done, of which file; bytes so far; in all, if known

CHUNK = 1 << 20
TIMEOUT_S = 30.0
RETRIES = 5  # without a byte of progress
TRY_AGAIN = (408, 429)  # request timeout and too many requests: the server's, like 5xx, not the address's
_COCO = "http://images.cocodataset.org"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012"
_SBD = "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours"


@dataclass(frozen=True)
class Archive:
    url: str
    md5: str
    splits: tuple[str, ...] = ()  # that need it; none: all of them

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


ARCHIVES = {
    "coco": (
        Archive(f"{_COCO}/annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c"),
        Archive(f"{_COCO}/zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", ("val",)),
        Archive(f"{_COCO}/zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", ("train",)),
    ),
    "voc": (Archive(f"{_VOC}/VOCtrainval_11-May-2012.tar", "6cd6e144f989b92b3379bac3b3de84fd"),),
    "sbd": (Archive(f"{_SBD}/benchmark.tgz", "82b4d87ceb2ed10f6038a1cba92111cb"),),
}


def archives_of(name: str, splits: tuple[str, ...] = ()) -> tuple[Archive, ...]:
    """Returns the archives of a data set, or of some of its splits. Raises UsageError."""
    known = {split for archive in ARCHIVES[name] for split in archive.splits}
    if unknown := [split for split in splits if split not in known]:
        only = f"its splits are {', '.join(sorted(known))}" if known else "it comes as a whole: ask for no splits"
        raise UsageError(f"{name} has no split '{unknown[0]}' to download alone; {only}.")
    return tuple(one for one in ARCHIVES[name] if not splits or not one.splits or set(one.splits) & set(splits))


def download(archive: Archive, folder: Path, progress: ByteProgress, url: str | None = None) -> Path:
    """Fetches an archive as a checked file in `folder` and goes on with what an earlier call left. `url`: of a mirror.

    Raises CenterMaskError when the server cannot be reached or the disk is full, and keeps what came; DataError, and
    removes it, when the sum is wrong. A file that is there already, perhaps put there by the user, is checked and kept.
    """
    path, part = folder / archive.name, folder / f"{archive.name}.part"

    def check(done: int, total: int | None) -> None:
        progress(f"check {archive.name}", done, total)

    if path.is_file():
        if (found := _md5(path, check)) != archive.md5:
            raise DataError(f"{path} has the MD5 sum {found}, not {archive.md5}: remove it and run the command again.")
        return path
    url = url or archive.url
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.touch()
    except OSError as error:
        raise UsageError(f"{folder} cannot be written, {error.strerror}: choose another folder.") from error
    failures = 0
    while True:
        before = part.stat().st_size
        try:
            _transfer(url, part, lambda done, total: progress(archive.name, done, total))
            break
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in TRY_AGAIN:
                raise CenterMaskError(
                    f"{url} answers {error.code} {error.reason}: check the address, or name a mirror."
                ) from error
            have = part.stat().st_size
            failures = 0 if have > before else failures + 1
            if failures >= RETRIES:
                raise CenterMaskError(
                    f"{url} broke off at {have} bytes ({_reason(error)}); run the command again to go on from there, "
                    f"or fetch the file yourself and put it at {path}."
                ) from error
            time.sleep(min(0.2 * 2**failures, 10.0))
        except OSError as error:
            raise CenterMaskError(f"{part} cannot be written, {error.strerror}: make room and run again.") from error
    if (found := _md5(part, check)) != archive.md5:
        part.unlink()
        raise DataError(
            f"{archive.name} from {url} has the MD5 sum {found}, not {archive.md5}: it was damaged on the way and is "
            "removed; run the command again."
        )
    part.replace(path)
    return path


def _transfer(url: str, part: Path, progress: Callable[[int, int | None], None]) -> None:
    """Appends what is missing to `part`. Raises URLError, HTTPException or OSError when that breaks off."""
    have = part.stat().st_size
    request = urllib.request.Request(url, headers={"User-Agent": "centermask"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # range not satisfiable: nothing is missing, unless the file is another one by now
            raise
        if error.headers.get("Content-Range") != f"bytes */{have}":
            part.write_bytes(b"")
            raise ConnectionError("the file on the server is shorter than what is here") from error
        return
    with answer:
        if have and (answer.status != 206 or not _starts_at(answer.headers.get("Content-Range"), have)):
            have = 0  # the server knows no ranges: from the beginning
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        if total is not None and total - have > (free := shutil.disk_usage(part.parent).free):
            raise CenterMaskError(
                f"{url} needs {(total - have) / 1e9:.1f} GB, but {part.parent} has {free / 1e9:.1f} GB left; make room "
                "or choose another folder."
            )
        with part.open("ab" if have else "wb") as file:
            while chunk := answer.read1(CHUNK):
                file.write(chunk)
                have += len(chunk)
                progress(have, total)
        if total is not None and have < total:
            raise ConnectionError(f"{total - have} bytes are missing")


def _starts_at(content_range: str | None, start: int) -> bool:
    return content_range is not None and content_range.startswith(f"bytes {start}-")


def _md5(path: Path, progress: Callable[[int, int | None], None]) -> str:
    summed, total, done = hashlib.md5(usedforsecurity=False), path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            summed.update(chunk)
            done += len(chunk)
            progress(done, total)
    return summed.hexdigest()


def _reason(error: Exception) -> str:
    return str(error.reason if isinstance(error, urllib.error.URLError) else error) or type(error).__name__

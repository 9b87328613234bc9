# SPDX-License-Identifier: Apache-2.0
"""A TIFF too large for the memory, read window by window: tiles, strips, or rows of a file without compression.

tifffile reads the file and imagecodecs its compressions, the extra `tiles`. What becomes of the pixels is what
read_image does: grey is repeated, transparency is dropped, 16 bits lose their lower 8 unless a range of values is
given. Decoded blocks are kept until a window begins below them, and MOST_KEPT bytes of them at most, so that windows
from the left and from the top decode each block once or twice.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.arguments import LONGEST_SIDE, path_of
from centermask_runtime.closing import Closing
from centermask_runtime.errors import DataError, first_line, shown
from centermask_runtime.image_kinds import open_regular
from centermask_runtime.packages import is_installed, need
from centermask_runtime.value_range import ValueRange

LARGE = 50_000_000  # pixels, from which on an image is read by windows: 150 MB as a frame
MOST_KEPT = 256 << 20  # bytes of decoded blocks
LARGEST_BLOCK = 256 << 20  # bytes of one decoded block
ROWS = 64  # of a file that is one block without compression are read at a time
_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF's


def open_if_large(path: str | Path) -> TiffWindows | None:
    """The file as TiffWindows, where it is a TIFF of one page of at least LARGE pixels; None for every other file.

    Without tifffile, a TIFF is an image as others, but for the kind that only tifffile reads, BigTIFF.
    Raises DataError where a large one is damaged, UsageError for a BigTIFF without tifffile.
    """
    try:
        with open_regular(path) as file:
            head = file.read(4)
    except (OSError, ValueError):
        return None  # whoever reads it says why
    if head not in _MARKS:
        return None
    if not is_installed("tifffile"):
        if b"+" in head:
            need("tifffile", "tiles", f"reading the BigTIFF {shown(path)}")
        return None
    return TiffWindows(path) if _is_large(path) else None


def _is_large(path: str | Path) -> bool:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            return page.imagewidth * page.imagelength >= LARGE and len(file.series[0].levels[0].pages) == 1
    except Exception:  # whatever a damaged header makes of itself; whoever reads it as an image says so
        return False


class TiffWindows(Closing):
    """The first page of a TIFF as windows uint8 [h, w, 3] BGR of it. For all threads.

        with TiffWindows("slide.tif") as image:
            corner = image.window((0, 0, 512, 512))

    values: what becomes of pixels of more than 8 bits; set before the first window is read.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises UsageError without tifffile, DataError for what cannot be read by windows, with what to do."""
        need("tifffile", "tiles", "reading a TIFF by windows")
        self.path = path_of(path, "An image")
        self._name = shown(self.path)
        self.values: ValueRange | None = None
        self._lock = Lock()
        self._kept: dict[int, tuple[int, int, NDArray[Any]]] = {}  # a block's top, left and pixels, the latest last
        self._kept_bytes = 0
        self._file, self._page = self._open()
        try:
            self._check()
        except BaseException:
            self._file.close()
            raise
        self.frame_hw: tuple[int, int] = int(self._page.imagelength), int(self._page.imagewidth)

    def window(self, rect: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """The pixels x0 <= x < x1, y0 <= y < y1 of a rectangle inside the image. Raises DataError where damaged."""
        x0, y0, x1, y1 = rect
        height, width = self.frame_hw
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height, (rect, self.frame_hw)
        pixels = np.zeros((y1 - y0, x1 - x0, self._samples), self._page.dtype)
        with self._lock:
            self._forget_above(y0)
            for plane, top, left, block in self._blocks(rect):
                bottom, right = min(top + block.shape[0], y1), min(left + block.shape[1], x1)
                inside = block[max(y0 - top, 0) : bottom - top, max(x0 - left, 0) : right - left]
                into = pixels[max(top - y0, 0) : bottom - y0, max(left - x0, 0) : right - x0]
                if self._planes > 1:
                    into[:, :, plane] = inside[:, :, 0]
                else:
                    into[:] = inside
        return self._bgr(pixels)

    def close(self) -> None:
        """Closes the file. Twice is as once."""
        with self._lock:
            self._file.close()
            self._kept.clear()
            self._kept_bytes = 0

    @property
    def _samples(self) -> int:
        return int(self._page.samplesperpixel)

    @property
    def _planes(self) -> int:
        return int(self._page.shaped[0])

    @property
    def _block_hw(self) -> tuple[int, int]:
        page = self._page
        if page.is_tiled:
            return int(page.tilelength), int(page.tilewidth)
        return min(int(page.rowsperstrip) or int(page.imagelength), int(page.imagelength)), int(page.imagewidth)

    @property
    def _grid(self) -> tuple[int, int]:
        """How many blocks a plane has down and across."""
        high, wide = self._block_hw
        return -(-int(self._page.imagelength) // high), -(-int(self._page.imagewidth) // wide)

    def _open(self) -> tuple[Any, Any]:
        import tifffile

        logging.getLogger("tifffile").addHandler(logging.NullHandler())  # the sentences here say it
        try:
            file = tifffile.TiffFile(self.path)
        except Exception as error:  # whatever a damaged header makes of itself
            reason = getattr(error, "strerror", None) or first_line(error)
            raise DataError(f"The TIFF {self._name} cannot be opened ({reason}): write it again.") from error
        try:
            return file, file.pages.first
        except Exception as error:  # as above
            file.close()
            raise DataError(f"The TIFF {self._name} has no page that can be read: copy or write it again.") from error

    def _check(self) -> None:
        page = self._page
        height, width = int(page.imagelength), int(page.imagewidth)
        if not 0 < height <= LONGEST_SIDE or not 0 < width <= LONGEST_SIDE:
            raise DataError(
                f"The TIFF {self._name} says that it has {width} x {height} pixels, and a side must have from 1 to "
                f"{LONGEST_SIDE}: its header may be damaged."
            )
        self._check_pixels()
        if self._by_rows:
            expected, blocks = int(page.dataoffsets[0]) + page.nbytes, 1
        else:
            blocks = self._grid[0] * self._grid[1] * self._planes
            ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
            expected = max(ends, default=0)
        if len(page.dataoffsets) < blocks or len(page.databytecounts) < blocks:
            raise DataError(
                f"The TIFF {self._name} of {width} x {height} pixels would have {blocks} blocks, and its header names "
                f"{min(len(page.dataoffsets), len(page.databytecounts))}: the file is damaged, so write it again."
            )
        size = os.path.getsize(self.path)
        if expected > size:
            raise DataError(
                f"The TIFF {self._name} of {width} x {height} pixels is cut off: it needs {expected} bytes and has "
                f"{size}, so copy or write it again."
            )
        samples = self._samples // self._planes
        largest = self._block_hw[0] * self._block_hw[1] * samples * page.dtype.itemsize
        if not self._by_rows and largest > LARGEST_BLOCK:
            raise DataError(
                f"The TIFF {self._name} of {width} x {height} pixels is stored in compressed blocks of "
                f"{largest >> 20} MB, and windows are read from blocks of at most {LARGEST_BLOCK >> 20} MB: write it "
                "in tiles, such as by `vips tiffsave in.tif out.tif --tile --compression deflate`."
            )

    def _check_pixels(self) -> None:
        import tifffile

        page, kinds = self._page, tifffile.PHOTOMETRIC
        dtype = page.dtype
        if dtype is None or dtype.kind not in "ubif":
            what = "no pixels that are known" if dtype is None else f"pixels of {dtype}"
            raise DataError(f"The TIFF {self._name} has {what}: bring its values to 8 bits, 0 to 255.")
        usual = page.photometric in (kinds.MINISBLACK, kinds.MINISWHITE, kinds.RGB)
        if not usual and not (page.photometric == kinds.YCBCR and page.compression in (6, 7, 33007)):
            raise DataError(
                f"The TIFF {self._name} has colours of the kind {_word(page.photometric)}: convert it to RGB."
            )
        if page.samplesperpixel > 4 or page.imagedepth > 1 or page.tags.valueof(274, default=1) != 1:
            what = (
                f"{page.samplesperpixel} channels" if page.samplesperpixel > 4
                else "several planes in one page" if page.imagedepth > 1
                else "a tag that turns it"
            )  # fmt: skip
            raise DataError(f"The TIFF {self._name} has {what}: write it as a plain grey or RGB image.")

    @property
    def _by_rows(self) -> bool:
        """Whether its rows lie one after the other as they are, so that any of them can be read."""
        page = self._page
        return bool(page.is_contiguous and page.is_final and not page.is_tiled and page.planarconfig == 1)

    def _blocks(self, rect: tuple[int, int, int, int]) -> Iterator[tuple[int, int, int, NDArray[Any]]]:
        """The blocks that a rectangle touches: plane, top, left, pixels [h, w, samples of the plane]."""
        x0, y0, x1, y1 = rect
        if self._by_rows:
            for index in range(y0 // ROWS, -(-y1 // ROWS)):
                yield 0, *self._block(index)
            return
        high, wide = self._block_hw
        down, across = self._grid
        for plane in range(self._planes):
            for row in range(y0 // high, -(-y1 // high)):
                for column in range(x0 // wide, -(-x1 // wide)):
                    yield plane, *self._block((plane * down + row) * across + column)

    def _block(self, index: int) -> tuple[int, int, NDArray[Any]]:
        """Top, left and pixels [h, w, samples] of a block."""
        block = self._kept.pop(index, None)
        if block is None:
            block = self._read_rows(index) if self._by_rows else self._decode(index)
            self._kept_bytes += block[2].nbytes
        self._kept[index] = block
        while self._kept_bytes > MOST_KEPT and len(self._kept) > 1:
            self._forget(next(iter(self._kept)))
        return block

    def _read_rows(self, index: int) -> tuple[int, int, NDArray[Any]]:
        page, (height, width) = self._page, self.frame_hw
        first = index * ROWS
        count = min(ROWS, height - first)
        dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
        row_bytes = width * self._samples * dtype.itemsize
        handle = page.parent.filehandle
        handle.seek(int(page.dataoffsets[0]) + first * row_bytes)
        content = handle.read(count * row_bytes)
        if len(content) < count * row_bytes:
            raise DataError(f"The TIFF {self._name} is cut off at row {first}: copy or write it again.")
        return first, 0, np.frombuffer(content, dtype).reshape(count, width, self._samples)

    def _decode(self, index: int) -> tuple[int, int, NDArray[Any]]:
        page, tables = self._page, {}
        for name in ("jpegtables", "jpegheader"):
            if getattr(page, name, None) is not None:
                tables[name] = getattr(page, name)
        handle = page.parent.filehandle
        high, wide = self._block_hw
        try:
            count = int(page.databytecounts[index])
            handle.seek(int(page.dataoffsets[index]))
            content = handle.read(count) if count else None  # before page.decode is touched, which moves the file
            pixels, place, shape = page.decode(content, index, **tables)
        except Exception as error:  # of any decoder
            raise DataError(
                f"The TIFF {self._name} is damaged in block {index} ({first_line(error)}): copy or write it again."
            ) from error
        _, _, top, left, _ = place
        if pixels is None:  # left out by whoever wrote it, as it is all 0
            pixels = np.zeros(shape, page.dtype)
        if pixels.ndim != 4 or pixels.shape[1] > high or pixels.shape[2] > wide:
            raise DataError(f"The TIFF {self._name} is damaged in block {index}: copy or write it again.")
        return int(top), int(left), pixels[0]

    def _forget_above(self, first: int) -> None:
        for index in [index for index, (top, _, block) in self._kept.items() if top + len(block) <= first]:
            self._forget(index)

    def _forget(self, index: int) -> None:
        self._kept_bytes -= self._kept.pop(index)[2].nbytes

    def _bgr(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        if pixels.dtype == np.bool_:
            pixels = pixels.view(np.uint8) * np.uint8(255)
        elif pixels.dtype == np.uint16 and self.values is None:
            pixels = (pixels >> 8).astype(np.uint8)
        elif pixels.dtype != np.uint8 and (self.values is None or self.values.percentiles):
            known = "no range" if self.values is None else "only percentiles of a whole image"
            raise DataError(
                f"The TIFF {self._name} holds values of {pixels.dtype}, and the model has {known} to say which are "
                "black and white: bring them to 8 bits, 0 to 255."
            )
        elif pixels.dtype != np.uint8 and self.values is not None:
            pixels = self.values.to_8_bits(pixels)
        if self._page.photometric == 0:  # white is 0
            pixels = 255 - pixels
        channels = [2, 1, 0] if self._samples >= 3 else [0, 0, 0]
        return np.ascontiguousarray(pixels[:, :, channels])


def _word(value: Any) -> str:
    return str(getattr(value, "name", value))

# SPDX-License-Identifier: Apache-2.0
"""What lies where in device memory: the arrays that stages read and write, by pointer.

Several arrays may share an allocation (Layout), so that one copy brings the results of a batch to the host. Nothing
here owns memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

ALIGNMENT = 256  # bytes; what cuMemAlloc gives, and enough for any vector access


@dataclass(frozen=True)
class Field:
    offset: int  # bytes from the start of the block
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """Named arrays one behind the other, in the order given."""

    fields: Mapping[str, Field]
    nbytes: int

    @classmethod
    def of(cls, **arrays: tuple[DTypeLike, tuple[int, ...]]) -> Layout:
        """name=(dtype, shape), ..."""
        fields: dict[str, Field] = {}
        end = 0
        for name, (dtype, shape) in arrays.items():
            fields[name] = Field(end, np.dtype(dtype), shape)
            end += -(-fields[name].nbytes // ALIGNMENT) * ALIGNMENT
        return cls(fields, max(end, ALIGNMENT))

    def at(self, pointer: int) -> Block:
        """This layout in device memory that begins at `pointer`: nbytes of it, not owned."""
        return Block(self, pointer)

    def view(self, host: NDArray[np.uint8], name: str) -> NDArray[Any]:
        """One array in a flat copy of the block; no copy is made."""
        field = self.fields[name]
        return host[field.offset : field.offset + field.nbytes].view(field.dtype).reshape(field.shape)


@dataclass(frozen=True)
class Block:
    """Device memory with a layout. It does not own the memory."""

    layout: Layout
    pointer: int

    def __getitem__(self, name: str) -> int:
        """The device pointer of one array."""
        return self.pointer + self.layout.fields[name].offset


@dataclass(frozen=True)
class Frames:
    """N frames uint8 [H, W, 3] BGR in device memory."""

    pointer: int
    pitch: int  # bytes from row to row
    image_stride: int  # bytes from frame to frame
    count: int  # N


class Nv12Frames(NamedTuple):
    """N frames as two planes each: luma [H, W], and chroma [H / 2, W / 2, 2] with Cb first. H and W are even."""

    luma: Frames
    chroma: Frames


class PeakPointers(NamedTuple):
    """Device pointers of what a graph of level `peaks` gives; the arrays of PeakOutputs."""

    scores: int  # f32 [N, K]
    labels: int  # i32 [N, K]
    boxes: int  # f32 [N, K, 4] xyxy, network input pixels
    shapes: int  # f32 [N, K, S, S] logits
    saliency: int  # f32 [N, G, h, w] logits


class HeadPointers(NamedTuple):
    """Device pointers of what a graph of level `heads` gives."""

    heatmap: int  # f32 [N, C, h, w] logits
    offsets: int  # f32 [N, 2, h, w] x, y in cells
    sizes: int  # f32 [N, 2, h, w] width, height in cells
    shapes: int  # f32 [N, S * S, h, w] logits
    saliency: int  # f32 [N, G, h, w] logits


@dataclass(frozen=True)
class Arena:
    """Memory for results of unknown size: a part of equal size for each image."""

    pointer: int
    capacity: int  # elements per image: bytes of masks, or run lengths of 4 bytes

# SPDX-License-Identifier: Apache-2.0
"""A head (CenterMask §3) is a 3x3 convolution, ReLU and a 1x1 convolution: dense, or evaluated at chosen cells only.

The offset, size and shape of a cell depend on its 3x3 neighbourhood alone, so evaluating them as matrix products at the
K peaks (inference) or ground-truth centres (training) gives the dense map's values without the 1024-channel map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Head(nn.Sequential):
    """One of the five heads: [N, C, h, w] -> [N, outputs, h, w] when called, [n, 9 C] -> [n, outputs] `at` cells."""

    def __init__(self, in_channels: int, width: int, outputs: int, bias: float = 0.0) -> None:
        super().__init__(nn.Conv2d(in_channels, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, outputs, 1))
        with torch.no_grad():
            _bias(self[2]).fill_(bias)

    @property
    def dtype(self) -> torch.dtype:
        return _conv(self[0]).weight.dtype

    def at(self, neighbourhoods: Tensor) -> Tensor:
        """Runs the head on rows that `neighbourhoods` made."""
        first, last = _conv(self[0]), _conv(self[2])
        rows_first = first.weight.permute(0, 2, 3, 1).flatten(1)  # [width, 9 C]: taps, then channels
        hidden = F.relu(F.linear(neighbourhoods, rows_first, first.bias))
        return F.linear(hidden, last.weight.flatten(1), last.bias)


def neighbourhoods(features: Tensor, image_index: Tensor, cells: Tensor) -> Tensor:
    """Gathers the zero-padded 3x3 neighbourhood of each cell.

    features [N, C, h, w]; image_index int64 [n]; cells int64 [n], flat index y * w + x. Returns [n, 9 C]: taps in
    row-major order, channels within a tap.
    """
    _, channels, height, width = features.shape
    rows = F.pad(features, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels)
    taps = torch.arange(9, device=features.device)
    tap_offset = (taps // 3) * (width + 2) + taps % 3
    y = cells // width
    corner = image_index * ((height + 2) * (width + 2)) + y * (width + 2) + (cells - y * width)
    index = (corner[:, None] + tap_offset).reshape(-1)
    return rows.index_select(0, index).reshape(-1, 9 * channels)


def _conv(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _bias(module: nn.Module) -> Tensor:
    bias = _conv(module).bias
    assert bias is not None
    return bias

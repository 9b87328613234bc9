# SPDX-License-Identifier: Apache-2.0
"""Modulated deformable convolution (DCNv2: Zhu et al., CVPR 2019, arXiv 1811.11168), of operators all runtimes have.

Each of the nine taps is read where a learned offset says, between pixels, and scaled by a learned number; a 1x1
convolution then weighs them. Reading is one grid_sample, as that is the form which ONNX Runtime, OpenVINO and TensorRT
all take; ONNX's DeformConv and torchvision's operator are not. Parameters have the names of CenterNet's DCN
(xingyizhou/CenterNet, MIT; charlesshang/DCNv2, BSD-3-Clause): weight, bias, conv_offset_mask.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TAPS = 9  # 3 x 3, row by row


class DeformableConv(nn.Module):
    """A layer [N, C, h, w] -> [N, out, h, w]: 3x3, stride 1, zeros outside. It starts as half a plain convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_channels * TAPS)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.conv_offset_mask = nn.Conv2d(in_channels, 3 * TAPS, 3, 1, 1)
        nn.init.zeros_(self.conv_offset_mask.weight)
        assert self.conv_offset_mask.bias is not None
        nn.init.zeros_(self.conv_offset_mask.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Learns 27 numbers per cell: an offset y, x in cells for each tap, then the logit of its modulation."""
        learned = self.conv_offset_mask(x)
        return deformable_conv(x, learned[:, : 2 * TAPS], learned[:, 2 * TAPS :].sigmoid(), self.weight, self.bias)


def deformable_conv(x: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolves x [N, C, h, w] with weight [out, C, 3, 3], each tap at its offset [N, 18, h, w] (y, x of each tap) and
    scaled by its modulation [N, 9, h, w].

    Positions are fp32 at least, whatever x is: fp16 would move them by a visible part of a cell. A position a whole
    cell or more outside reads zero; from there to the border the value rises.
    """
    count, channels, height, width = x.shape
    exact = torch.promote_types(x.dtype, torch.float32)
    taps = torch.arange(TAPS, device=x.device).reshape(1, TAPS, 1, 1)
    rows = torch.arange(height, device=x.device).reshape(1, 1, height, 1)
    columns = torch.arange(width, device=x.device).reshape(1, 1, 1, width)
    moved = offsets.to(exact).reshape(count, TAPS, 2, height, width)
    at_y = moved[:, :, 0] + (rows + taps // 3 - 1).to(exact)  # [N, 9, h, w], cells
    at_x = moved[:, :, 1] + (columns + taps % 3 - 1).to(exact)
    grid = torch.stack(((2 * at_x + 1) / width - 1, (2 * at_y + 1) / height - 1), -1)  # -1 and 1 are the outer edges
    grid = grid.reshape(count, TAPS * height, width, 2)
    sampled = F.grid_sample(x.to(exact), grid, "bilinear", "zeros", align_corners=False).to(x.dtype)
    sampled = sampled * modulation.to(x.dtype).reshape(count, 1, TAPS * height, width)
    taps_as_channels = sampled.reshape(count, channels * TAPS, height, width)  # in the weight's order
    return F.conv2d(taps_as_channels, weight.reshape(-1, channels * TAPS, 1, 1), bias)

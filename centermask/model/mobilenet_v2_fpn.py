# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 of width 1.5 with a feature pyramid to stride 4 (Lin et al., arXiv 1612.03144): the trunk of
MoveNet.MultiPose.Lightning (Google, Apache-2.0), a CenterNet that was trained to find persons.

Its weights want RGB, x / 127.5 - 1, that is input.mean 0.5 and input.std 0.5.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, is_grad_enabled, nn
from torch.nn import functional as F

from centermask.model.recompute import recomputed
from centermask.model.same_conv import ConvNorm, InvertedResidual

STEM_CHANNELS = 48
EXPANSION = 6
LAST_CHANNELS = 1280
TOP_CHANNELS = 64  # of the coarsest map of the pyramid


class Block(NamedTuple):
    channels: int
    stride: int


BLOCKS = (
    Block(24, 1), Block(40, 2), Block(40, 1), Block(48, 2), Block(48, 1), Block(48, 1), Block(96, 2), Block(96, 1),
    Block(96, 1), Block(96, 1), Block(144, 1), Block(144, 1), Block(144, 1), Block(240, 2), Block(240, 1),
    Block(240, 1), Block(480, 1),
)  # fmt: skip
LATERALS = ((9, 64, 32), (5, 32, 24), (2, 24, 24))  # block, channels of the pyramid at its stride, and one level finer
FINE_BLOCKS = 3  # down to stride 4
STRIDE_2, STRIDE_16, STRIDE_32 = 0, 12, 16  # blocks whose outputs go into the maps beside those with a lateral


class Separable(nn.Module):
    """A 3x3 convolution of each channel by itself, a 1x1 convolution, a batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, 1, 1, groups=in_channels, bias=False)
        self.pointwise = ConvNorm(in_channels, out_channels, active=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pointwise(self.depthwise(x)))


class MobileNetV2FPN(nn.Module):
    """The backbone: an image [N, 3, H, W] -> six maps, level i at stride 2**i with channels[i], and the pyramid's last.

    Level 0 is the image; levels 2 to 5 are a block's output beside the pyramid's map at that stride. The seventh map,
    [N, pyramid_channels, H/4, W/4], is where the published heads stand: the up path hands it on to ours.

    recompute: activations down to stride 4 are computed again in the backward pass, see model/recompute.py.
    """

    recompute = False
    channels = (3, 24, 40 + 24, 48 + 24, 96 + 144 + 32, 480 + 64)
    pyramid_channels = 24

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, 2)
        blocks, channels = [], STEM_CHANNELS
        for number, block in enumerate(BLOCKS):
            expansion = EXPANSION if number else 1
            blocks.append(InvertedResidual(channels, block.channels, expansion, 3, block.stride, residual=number > 0))
            channels = block.channels
        self.blocks = nn.ModuleList(blocks)
        self.last = ConvNorm(channels, LAST_CHANNELS)
        self.top = nn.Conv2d(LAST_CHANNELS, TOP_CHANNELS, 1)
        self.laterals = nn.ModuleList(nn.Conv2d(BLOCKS[block].channels, wide, 1) for block, wide, _ in LATERALS)
        self.top_down = nn.ModuleList(Separable(wide, finer) for _, wide, finer in LATERALS)

    def levels(self) -> list[tuple[nn.Module, ...]]:
        """Returns what makes the maps down to stride 2, 4, 8, 16 and 32: the levels that model.freeze counts.

        The pyramid goes with the last, which it begins from.
        """
        blocks = self.blocks
        pyramid = (self.last, self.top, self.laterals, self.top_down)
        coarse = [tuple(blocks[1:3]), tuple(blocks[3:6]), tuple(blocks[6:13])]
        return [(self.stem, blocks[0]), *coarse, (*blocks[13:], *pyramid)]

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.recompute and self.training and is_grad_enabled():
            outputs = recomputed(self._fine_blocks, x, (self.stem, *self.blocks[:FINE_BLOCKS]))
        else:
            outputs = self._fine_blocks(x)
        for block in self.blocks[FINE_BLOCKS:]:
            outputs.append(block(outputs[-1]))
        pyramid = [self.top(self.last(outputs[-1]))]  # strides 32, 16, 8, 4
        for (block_number, _, _), lateral, finer in zip(LATERALS, self.laterals, self.top_down, strict=True):
            raised = F.interpolate(pyramid[-1], scale_factor=2.0, mode="bilinear", align_corners=False)
            pyramid.append(finer(raised + lateral(outputs[block_number])))
        return [
            x,
            outputs[STRIDE_2],
            torch.cat((outputs[2], pyramid[3]), 1),
            torch.cat((outputs[5], pyramid[2]), 1),
            torch.cat((outputs[9], outputs[STRIDE_16], pyramid[1]), 1),
            torch.cat((outputs[STRIDE_32], pyramid[0]), 1),
            pyramid[3],
        ]

    def _fine_blocks(self, x: Tensor) -> list[Tensor]:
        outputs = [self.blocks[0](self.stem(x))]
        for block in self.blocks[1:FINE_BLOCKS]:
            outputs.append(block(outputs[-1]))
        return outputs


def mobilenet_v2_fpn() -> MobileNetV2FPN:
    return MobileNetV2FPN()

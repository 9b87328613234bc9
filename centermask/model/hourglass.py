# SPDX-License-Identifier: Apache-2.0
"""Hourglass-104 (Law & Deng, CornerNet, ECCV 2018, arXiv 1808.01244), with two stacks, as CenterNet uses it.

Modules carry the names of the published code (princeton-vl/CornerNet, BSD-3-Clause; xingyizhou/CenterNet, MIT), as do
their parameters. Each stack ends in features of its own; losses on all of them train the network, the last ones are
the result. Seven halvings lie between image and innermost map, and each is undone by doubling, so that the sides of
the input must be multiples of 128.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, is_grad_enabled, nn
from torch.nn import functional as F

from centermask.model.recompute import recomputed


class Convolution(nn.Module):
    """A convolution, a batch norm and ReLU."""

    def __init__(self, kernel: int, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Residual(nn.Module):
    """Two 3x3 convolutions; the input is added, projected where its shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.skip = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.skip = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.skip(x))


class HourglassModule(nn.Module):
    """One hourglass halves its input, does the same at half resolution, doubles, and adds what went straight.

    The output has the shape of the input.
    """

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        """channels and blocks are those of each resolution, finest first; the last one is the innermost."""
        super().__init__()
        here, inner, *_ = channels
        count = blocks[0]
        self.up1 = _residuals([here] * (count + 1))
        self.low1 = _residuals([here] + [inner] * count, stride=2)
        self.low2: nn.Module
        if len(channels) > 2:
            self.low2 = HourglassModule(channels[1:], blocks[1:])
        else:
            self.low2 = _residuals([inner] * (blocks[1] + 1))
        self.low3 = _residuals([inner] * count + [here])

    def forward(self, x: Tensor) -> Tensor:
        low = self.low3(self.low2(self.low1(x)))
        straight: Tensor = self.up1(x)
        return straight + F.interpolate(low, scale_factor=2.0, mode="nearest")


class Hourglass(nn.Module):
    """The backbone: an image [N, 3, H, W] -> features [N, feature_channels, H/4, W/4] of each stack, the last the best.

    recompute: activations of the stem and of each hourglass are computed again in the backward pass, see
    model/recompute.py.
    """

    recompute = False

    def __init__(
        self, stacks: int, stem_channels: int, channels: tuple[int, ...], blocks: tuple[int, ...], feature_channels: int
    ) -> None:
        super().__init__()
        self.feature_channels = feature_channels
        self.stacks = stacks
        inner = channels[0]
        self.pre = nn.Sequential(Convolution(7, 3, stem_channels, stride=2), Residual(stem_channels, inner, stride=2))
        self.kps = nn.ModuleList(HourglassModule(channels, blocks) for _ in range(stacks))
        self.cnvs = nn.ModuleList(Convolution(3, inner, feature_channels) for _ in range(stacks))
        between = range(stacks - 1)
        self.inters = nn.ModuleList(Residual(inner, inner) for _ in between)
        self.inters_ = nn.ModuleList(_projection(inner, inner) for _ in between)
        self.cnvs_ = nn.ModuleList(_projection(feature_channels, inner) for _ in between)

    def levels(self) -> list[tuple[nn.Module, ...]]:
        """Returns the stem and each stack, with what carries its result on: the levels that model.freeze counts."""
        stacks: list[tuple[nn.Module, ...]] = list(zip(self.kps, self.cnvs, strict=True))
        between = zip(self.inters, self.inters_, self.cnvs_, strict=True)
        for number, parts in enumerate(between):
            stacks[number] += parts
        return [(self.pre,), *stacks]

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self._run(self.pre, x)
        features = []
        for stack in range(self.stacks):
            features.append(self.cnvs[stack](self._run(self.kps[stack], x)))
            if stack < self.stacks - 1:
                x = F.relu(self.inters_[stack](x) + self.cnvs_[stack](features[-1]))
                x = self.inters[stack](x)
        return features

    def _run(self, part: nn.Module, x: Tensor) -> Tensor:
        y: Tensor = recomputed(part, x, [part]) if self.recompute and self.training and is_grad_enabled() else part(x)
        return y


def _residuals(channels: list[int], stride: int = 1) -> nn.Sequential:
    """Chains one residual from each number of channels to the next; the first one has the stride."""
    pairs = enumerate(pairwise(channels))
    return nn.Sequential(*(Residual(a, b, stride if i == 0 else 1) for i, (a, b) in pairs))


def _projection(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


def hourglass_104() -> Hourglass:
    return Hourglass(2, 128, (256, 256, 384, 384, 384, 512), (2, 2, 2, 2, 2, 4), 256)

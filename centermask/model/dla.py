# SPDX-License-Identifier: Apache-2.0
"""DLA-34 and DLA-46-C: Deep Layer Aggregation (Yu et al., CVPR 2018, arXiv 1707.06484).

Modules carry the names of the published code (ucbdrive/dla, BSD-3-Clause), as do their parameters.
One deviation: a tree of trees owns no `project`; the published one creates it there too but never uses its result.
"""

from __future__ import annotations

from torch import Tensor, cat, is_grad_enabled, nn
from torch.nn import functional as F

from centermask.model.recompute import recomputed


class BasicBlock(nn.Module):
    """The block of DLA-34: two 3x3 convolutions and a residual."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + (x if residual is None else residual))


class Bottleneck(nn.Module):
    """The block of DLA-46-C: convolutions 1x1, 3x3, 1x1 at half width, and a residual."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        width = out_channels // 2
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (x if residual is None else residual))


Block = type[BasicBlock] | type[Bottleneck]


class Root(nn.Module):
    """An aggregation node concatenates its children; a 1x1 convolution mixes them."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, *children: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(cat(children, 1))))


class Tree(nn.Module):
    """A hierarchical aggregation: two subtrees (or blocks) whose outputs and ancestors meet in one root."""

    def __init__(
        self,
        levels: int,
        block: Block,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        level_root: bool = False,
        root_channels: int = 0,
    ) -> None:
        super().__init__()
        root_channels = (root_channels or 2 * out_channels) + (in_channels if level_root else 0)
        self.levels = levels
        self.level_root = level_root
        self.downsample = nn.MaxPool2d(stride, stride) if stride > 1 else None
        self.project: nn.Sequential | None = None
        self.tree1: nn.Module
        self.tree2: nn.Module
        if levels == 1:
            self.tree1 = block(in_channels, out_channels, stride)
            self.tree2 = block(out_channels, out_channels)
            self.root = Root(root_channels, out_channels)
            if in_channels != out_channels:
                self.project = nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
                )
        else:
            self.tree1 = Tree(levels - 1, block, in_channels, out_channels, stride)
            self.tree2 = Tree(levels - 1, block, out_channels, out_channels, root_channels=root_channels + out_channels)

    def forward(self, x: Tensor, ancestors: tuple[Tensor, ...] = ()) -> Tensor:
        bottom = x if self.downsample is None else self.downsample(x)
        if self.level_root:
            ancestors = (*ancestors, bottom)
        if self.levels > 1:
            x1 = self.tree1(x)
            y: Tensor = self.tree2(x1, (*ancestors, x1))
            return y
        x1 = self.tree1(x, bottom if self.project is None else self.project(bottom))
        x2 = self.tree2(x1)
        y = self.root(x2, x1, *ancestors)
        return y


class DLA(nn.Module):
    """The backbone: an image [N, 3, H, W] -> six maps, level i at stride 2**i with channels[i].

    recompute: activations of the levels down to stride 4, which are most of them and cost little arithmetic, are
    computed again in the backward pass, see model/recompute.py.
    """

    recompute = False

    def __init__(self, levels: tuple[int, ...], channels: tuple[int, ...], block: Block) -> None:
        super().__init__()
        self.channels = channels
        self.base_layer = _conv_level(3, channels[0], kernel=7)
        self.level0 = _conv_level(channels[0], channels[0])
        self.level1 = _conv_level(channels[0], channels[1], stride=2)
        self.level2 = Tree(levels[2], block, channels[1], channels[2], 2)
        self.level3 = Tree(levels[3], block, channels[2], channels[3], 2, level_root=True)
        self.level4 = Tree(levels[4], block, channels[3], channels[4], 2, level_root=True)
        self.level5 = Tree(levels[5], block, channels[4], channels[5], 2, level_root=True)

    def levels(self) -> list[tuple[nn.Module, ...]]:
        """Returns what makes the maps down to stride 2, 4, 8, 16 and 32: the levels that model.freeze counts."""
        stem = (self.base_layer, self.level0, self.level1)
        return [stem, (self.level2,), (self.level3,), (self.level4,), (self.level5,)]

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.recompute and self.training and is_grad_enabled():
            maps = recomputed(self._fine_levels, x, (self.base_layer, self.level0, self.level1, self.level2))
        else:
            maps = self._fine_levels(x)
        for level in (self.level3, self.level4, self.level5):
            maps.append(level(maps[-1]))
        return maps

    def _fine_levels(self, x: Tensor) -> list[Tensor]:
        maps = [self.level0(self.base_layer(x))]
        for level in (self.level1, self.level2):
            maps.append(level(maps[-1]))
        return maps


def _conv_level(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def dla_34() -> DLA:
    return DLA((1, 1, 1, 2, 2, 1), (16, 32, 64, 128, 256, 512), BasicBlock)


def dla_46c() -> DLA:
    return DLA((1, 1, 1, 2, 2, 1), (16, 32, 64, 64, 128, 256), Bottleneck)

# SPDX-License-Identifier: Apache-2.0
"""Iterative deep aggregation back up to stride 4, as CenterNet arranges it (Zhou et al., arXiv 1904.07850).

Module names follow CenterNet's DLASeg (MIT), but `dla_up` and `ida_up` sit below `up` in CenterMask. Its deformable
convolutions are plain 3x3 ones here, fast on every back end, unless the config asks for them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from centermask.model.deformable import DeformableConv

FIRST_LEVEL = 2  # stride 4
LAST_LEVEL = 5  # the final aggregation takes levels 2, 3, 4


class UpConv(nn.Module):
    """A 3x3 convolution, plain or deformable, a batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, deformable: bool) -> None:
        super().__init__()
        self.conv: nn.Module
        if deformable:
            self.conv = DeformableConv(in_channels, out_channels)
        else:
            self.conv = nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False)
        self.actf = nn.Sequential(nn.BatchNorm2d(out_channels), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.actf(self.conv(x))
        return y


class BilinearUp(nn.ConvTranspose2d):
    """A depthwise transposed convolution that starts as bilinear up-sampling by a whole factor.

    Never under autocast: in bf16 it is 15 times slower on a CPU, and TensorRT refuses it.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__(channels, channels, 2 * factor, factor, factor // 2, groups=channels, bias=False)
        taps = 1 - (torch.arange(2 * factor) - (factor - 0.5)).abs() / factor
        with torch.no_grad():
            self.weight.copy_(taps[:, None] * taps[None, :])

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype), output_size)


class IDAUp(nn.Module):
    """Brings maps of falling resolution to the first one's and merges them one by one."""

    def __init__(self, out_channels: int, in_channels: list[int], factors: list[int], deformable: bool) -> None:
        super().__init__()
        for i in range(1, len(in_channels)):
            self.add_module(f"proj_{i}", UpConv(in_channels[i], out_channels, deformable))
            self.add_module(f"up_{i}", BilinearUp(out_channels, factors[i]))
            self.add_module(f"node_{i}", UpConv(out_channels, out_channels, deformable))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Returns one merged map for each, all at the resolution of maps[0], the finest."""
        merged = [maps[0]]
        for i in range(1, len(maps)):
            raised = self.get_submodule(f"up_{i}")(self.get_submodule(f"proj_{i}")(maps[i]))
            merged.append(self.get_submodule(f"node_{i}")(raised + merged[-1]))
        return merged


class DLAUp(nn.Module):
    """Aggregates levels 2..5 of the backbone into four maps, finest first."""

    def __init__(self, channels: list[int], deformable: bool) -> None:
        super().__init__()
        self.count = len(channels)
        in_channels = list(channels)
        for i in range(self.count - 1):
            j = self.count - 2 - i
            factors = [1] + [2] * (self.count - 1 - j)
            self.add_module(f"ida_{i}", IDAUp(channels[j], in_channels[j:], factors, deformable))
            in_channels[j + 1 :] = [channels[j]] * (self.count - 1 - j)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = list(maps)
        out = [maps[-1]]
        for i in range(self.count - 1):
            j = self.count - 2 - i
            maps[j:] = self.get_submodule(f"ida_{i}")(maps[j:])
            out.insert(0, maps[-1])
        return out


class UpPath(nn.Module):
    """Merges the six maps of the backbone into features [N, channels[2], H/4, W/4]."""

    def __init__(self, channels: tuple[int, ...], deformable: bool = False) -> None:
        super().__init__()
        levels = list(channels[FIRST_LEVEL:])
        self.feature_channels = channels[FIRST_LEVEL]
        self.dla_up = DLAUp(levels, deformable)
        finest = LAST_LEVEL - FIRST_LEVEL
        self.ida_up = IDAUp(self.feature_channels, levels[:finest], [2**i for i in range(finest)], deformable)
        self.finest = finest

    def forward(self, maps: list[Tensor]) -> Tensor:
        aggregated = self.dla_up(maps[FIRST_LEVEL:])
        features: Tensor = self.ida_up(aggregated[: self.finest])[-1]
        return features

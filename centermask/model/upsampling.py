# SPDX-License-Identifier: Apache-2.0
"""Iterative deep aggregation back up to stride 4, as CenterNet arranges it (Zhou et al., arXiv 1904.07850).

Module names follow CenterNet's DLASeg (MIT), but `dla_up` and `ida_up` sit below `up` in CenterMask. Its deformable
convolutions are plain 3x3 ones here, fast on every back end, unless the config asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from centermask.model.deformable import DeformableConv

Conv = Callable[[int, int], nn.Module]  # in_channels, out_channels -> a 3x3 convolution at stride 1 without bias
FIRST_LEVEL = 2  # stride 4
LAST_LEVEL = 5  # the final aggregation takes levels 2, 3, 4


class PlainConv(nn.Conv2d):
    """A 3x3 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, 1, 1, bias=False)


class SeparableConv(nn.Sequential):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution: a ninth of the arithmetic, about."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, 1, 1, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
        )


CONVOLUTIONS: dict[str, Conv] = {  # model.up_conv
    "plain": PlainConv,
    "separable": SeparableConv,
    "deformable": DeformableConv,
}


class UpConv(nn.Module):
    """A 3x3 convolution of any kind, a batch norm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, conv: Conv) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels)
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

    def __init__(self, out_channels: int, in_channels: list[int], factors: list[int], conv: Conv) -> None:
        super().__init__()
        for i in range(1, len(in_channels)):
            self.add_module(f"proj_{i}", UpConv(in_channels[i], out_channels, conv))
            self.add_module(f"up_{i}", BilinearUp(out_channels, factors[i]))
            self.add_module(f"node_{i}", UpConv(out_channels, out_channels, conv))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Returns one merged map for each, all at the resolution of maps[0], the finest."""
        merged = [maps[0]]
        for i in range(1, len(maps)):
            raised = self.get_submodule(f"up_{i}")(self.get_submodule(f"proj_{i}")(maps[i]))
            merged.append(self.get_submodule(f"node_{i}")(raised + merged[-1]))
        return merged


class DLAUp(nn.Module):
    """Aggregates levels 2..5 of the backbone into four maps, finest first."""

    def __init__(self, channels: list[int], conv: Conv) -> None:
        super().__init__()
        self.count = len(channels)
        in_channels = list(channels)
        for i in range(self.count - 1):
            j = self.count - 2 - i
            factors = [1] + [2] * (self.count - 1 - j)
            self.add_module(f"ida_{i}", IDAUp(channels[j], in_channels[j:], factors, conv))
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
    """Merges the maps of the backbone into features [N, feature_channels, H/4, W/4].

    channels: of the backbone's six maps. widths: of the up path at strides 4, 8, 16, 32; a 1x1 convolution brings each
    map to its width. None: the backbone's own, without one. appended: channels of a seventh map at stride 4 that goes
    into the features as it is, behind the merged ones.
    """

    def __init__(
        self, channels: Sequence[int], conv: str = "plain", widths: Sequence[int] | None = None, appended: int = 0
    ) -> None:
        super().__init__()
        levels = list(channels[FIRST_LEVEL : LAST_LEVEL + 1])
        self.laterals: nn.ModuleList | None = None
        if widths is not None:
            pairs = zip(levels, widths, strict=True)
            self.laterals = nn.ModuleList(_lateral(there, here) for there, here in pairs)
            levels = list(widths)
        make_conv = CONVOLUTIONS[conv]
        self.feature_channels = levels[0] + appended
        self.appends = appended > 0
        self.dla_up = DLAUp(levels, make_conv)
        finest = LAST_LEVEL - FIRST_LEVEL
        self.ida_up = IDAUp(levels[0], levels[:finest], [2**i for i in range(finest)], make_conv)
        self.finest = finest

    def forward(self, maps: list[Tensor]) -> Tensor:
        levels = maps[FIRST_LEVEL : LAST_LEVEL + 1]
        if self.laterals is not None:
            levels = [lateral(level) for lateral, level in zip(self.laterals, levels, strict=True)]
        aggregated = self.dla_up(levels)
        features: Tensor = self.ida_up(aggregated[: self.finest])[-1]
        return torch.cat((features, maps[-1]), 1) if self.appends else features


def _lateral(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU())

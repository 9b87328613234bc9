# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite as a backbone (Tan and Le, arXiv 1905.11946, without squeeze-and-excite and with ReLU6, which makes
it a network for 8-bit integers). Architecture table: tensorflow/tpu, models/official/efficientnet/lite (Apache-2.0).

Its ImageNet weights want RGB, (x - 127) / 128, that is input.mean 0.498 and input.std 0.502.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, is_grad_enabled, nn

from centermask.model.recompute import recomputed
from centermask.model.same_conv import ConvNorm, InvertedResidual


class Stage(NamedTuple):
    expansion: int
    kernel: int
    stride: int
    channels: int
    repeats: int


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
LAST_OF_LEVEL = (0, 1, 2, 4, 6)  # the stages whose outputs are the maps at strides 2, 4, 8, 16, 32
FINE_STAGES = 2  # down to stride 4
STEM_CHANNELS = 32  # of every member: the stem and the first and last stage do not scale in depth


class EfficientNetLite(nn.Module):
    """The backbone: an image [N, 3, H, W] -> six maps, level i at stride 2**i with channels[i]; level 0 is the image.

    recompute: activations down to stride 4 are computed again in the backward pass, see model/recompute.py.
    """

    recompute = False

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_CHANNELS, 3, 2)
        self.stages = nn.ModuleList()
        channels, of_stage = STEM_CHANNELS, []
        for number, stage in enumerate(STAGES):
            scales_in_depth = 0 < number < len(STAGES) - 1
            repeats = math.ceil(depth * stage.repeats) if scales_in_depth else stage.repeats
            out_channels = _scaled(stage.channels, width)
            blocks = nn.Sequential()
            for i in range(repeats):
                stride = stage.stride if i == 0 else 1
                blocks.append(InvertedResidual(channels, out_channels, stage.expansion, stage.kernel, stride))
                channels = out_channels
            self.stages.append(blocks)
            of_stage.append(out_channels)
        self.channels = (3, *(of_stage[number] for number in LAST_OF_LEVEL))

    def levels(self) -> list[tuple[nn.Module, ...]]:
        """Returns what makes the maps down to stride 2, 4, 8, 16 and 32: the levels that model.freeze counts."""
        firsts = (0, *(number + 1 for number in LAST_OF_LEVEL[:-1]))
        spans = zip(firsts, LAST_OF_LEVEL, strict=True)
        stem, *others = (tuple(self.stages[first : last + 1]) for first, last in spans)
        return [(self.stem, *stem), *others]

    def forward(self, x: Tensor) -> list[Tensor]:
        if self.recompute and self.training and is_grad_enabled():
            maps = recomputed(self._fine_levels, x, (self.stem, *self.stages[:FINE_STAGES]))
        else:
            maps = self._fine_levels(x)
        y = maps[-1]
        for number, stage in enumerate(self.stages[FINE_STAGES:], FINE_STAGES):
            y = stage(y)
            if number in LAST_OF_LEVEL:
                maps.append(y)
        return [x, *maps]

    def _fine_levels(self, x: Tensor) -> list[Tensor]:
        maps = [self.stages[0](self.stem(x))]
        for stage in self.stages[1:FINE_STAGES]:
            maps.append(stage(maps[-1]))
        return maps


def _scaled(channels: int, width: float) -> int:
    """Rounds to a multiple of 8 that is not below nine tenths, as TensorFlow's networks do."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def efficientnet_lite0() -> EfficientNetLite:
    return EfficientNetLite(1.0, 1.0)


def efficientnet_lite1() -> EfficientNetLite:
    return EfficientNetLite(1.0, 1.1)


def efficientnet_lite2() -> EfficientNetLite:
    return EfficientNetLite(1.1, 1.2)

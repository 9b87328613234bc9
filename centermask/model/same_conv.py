# SPDX-License-Identifier: Apache-2.0
"""Convolutions as TensorFlow pads them, and the inverted residual of MobileNetV2 (Sandler et al., arXiv 1801.04381).

Networks that were trained in TensorFlow compute what they were trained for only with its padding SAME: at stride 2 and
even sides it is not the same on both sides.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-3  # of TensorFlow's batch norms
MOMENTUM = 0.1  # there 0.01, for far longer trainings: in ours such statistics would lag behind the weights


class SameConv2d(nn.Conv2d):
    """A convolution without bias, with padding SAME: at stride 2 the odd pixel is right and below, for even sides."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
        self.before, self.after = (kernel - stride) // 2, (kernel - stride + 1) // 2

    def forward(self, x: Tensor) -> Tensor:
        if self.stride != (1, 1):
            x = F.pad(x, (self.before, self.after, self.before, self.after))
        return super().forward(x)


class ConvNorm(nn.Module):
    """A SameConv2d and its batch norm, then ReLU6 if `active`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1,
        active: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = SameConv2d(in_channels, out_channels, kernel, stride, groups)
        self.norm = nn.BatchNorm2d(out_channels, EPSILON, MOMENTUM)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return F.relu6(y) if self.active else y


class InvertedResidual(nn.Module):
    """Widens by `expansion` (1: not at all), convolves each channel by itself and narrows linearly."""

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, kernel: int = 3, stride: int = 1,
        residual: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        wide = in_channels * expansion
        self.expand = ConvNorm(in_channels, wide) if expansion > 1 else None
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, out_channels, active=False)
        self.residual = residual and stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(x if self.expand is None else self.expand(x)))
        return x + y if self.residual else y

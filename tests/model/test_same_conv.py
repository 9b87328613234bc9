# SPDX-License-Identifier: Apache-2.0
"""Padding as TensorFlow's SAME means it, against its definition in a slow loop; and the inverted residual."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from centermask.model.same_conv import ConvNorm, InvertedResidual, SameConv2d


def padded_same(x: Tensor, kernel: int, stride: int) -> tuple[Tensor, int, int]:
    """x [C, h, w] inside zeros, by the formulas of tf.nn's page on padding, and the output's height and width."""
    sizes, befores = [], []
    for side in x.shape[1:]:
        out = math.ceil(side / stride)
        along = max((out - 1) * stride + kernel - side, 0)
        sizes.append(out)
        befores.append(along // 2)
    padded = torch.zeros(x.shape[0], x.shape[1] + 2 * kernel, x.shape[2] + 2 * kernel)
    padded[:, befores[0] : befores[0] + x.shape[1], befores[1] : befores[1] + x.shape[2]] = x
    return padded, sizes[0], sizes[1]


def convolved_same(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The convolution of x [C, h, w] with weight [out, C, k, k], one output at a time."""
    kernel = weight.shape[2]
    padded, height, width = padded_same(x, kernel, stride)
    result = torch.zeros(weight.shape[0], height, width)
    for row in range(height):
        for column in range(width):
            patch = padded[:, row * stride : row * stride + kernel, column * stride : column * stride + kernel]
            result[:, row, column] = (weight * patch).sum((1, 2, 3))
    return result


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("size", [(8, 12), (2, 2), (6, 4)])
def test_it_is_tensorflows_same_padding(kernel, stride, size):
    torch.manual_seed(0)
    conv, x = SameConv2d(3, 4, kernel, stride), torch.randn(3, *size)
    with torch.no_grad():
        torch.testing.assert_close(conv(x[None])[0], convolved_same(x, conv.weight, stride), atol=1e-5, rtol=1e-5)


def test_at_stride_2_the_odd_pixel_of_padding_is_right_and_below():
    """A kernel that picks its upper left tap sees the first pixel of the image, not the padding."""
    conv = SameConv2d(1, 1, 3, 2)
    with torch.no_grad():
        conv.weight.zero_()[0, 0, 0, 0] = 1
        image = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert conv(image)[0, 0].tolist() == [[0, 2], [8, 10]]


def test_a_residual_is_added_only_where_input_and_output_are_alike():
    torch.manual_seed(0)
    x = torch.randn(1, 8, 6, 6)
    for block, adds in (
        (InvertedResidual(8, 8, 6), True), (InvertedResidual(8, 8, 6, residual=False), False),
        (InvertedResidual(8, 12, 6), False), (InvertedResidual(8, 8, 6, stride=2), False),
    ):  # fmt: skip
        block.eval()
        y = x if block.expand is None else block.expand(x)
        y = block.project(block.depthwise(y))
        assert torch.equal(block(x), x + y if adds else y)


def test_activations_end_at_six():
    layer = ConvNorm(1, 1).eval()
    with torch.no_grad():
        layer.conv.weight.fill_(1)
        seen = layer(torch.tensor([-3.0, 2.0, 50.0]).reshape(1, 1, 1, 3)).flatten()
    torch.testing.assert_close(seen, torch.tensor([0.0, 2.0 / math.sqrt(1 + 1e-3), 6.0]))

# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite: the published sizes, and outputs equal to another implementation with the published weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from centermask.model.efficientnet_lite import (
    EfficientNetLite,
    efficientnet_lite0,
    efficientnet_lite1,
    efficientnet_lite2,
)
from tests.support.starting_weights import Folder, by_order

MEMBERS = {"lite0": efficientnet_lite0, "lite1": efficientnet_lite1, "lite2": efficientnet_lite2}


@pytest.mark.parametrize(
    ("make", "whole"),
    [(efficientnet_lite0, 4_652_008), (efficientnet_lite1, 5_416_680), (efficientnet_lite2, 6_092_072)],
)
def test_parameter_counts_are_the_published_ones(make, whole):
    """Published with the classifier: a 1x1 convolution to 1280 channels, its batch norm, and 1000 classes."""
    network = make()
    classifier = network.channels[-1] * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(parameter.numel() for parameter in network.parameters()) == whole - classifier


@pytest.mark.parametrize("make", MEMBERS.values(), ids=MEMBERS)
def test_level_i_is_at_stride_2_to_the_i_with_its_channels(make: Callable[[], EfficientNetLite]):
    network = make().eval()
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 64, 96))
    assert [tuple(one.shape) for one in maps] == [
        (1, channels, 64 >> level, 96 >> level) for level, channels in enumerate(network.channels)
    ]


@pytest.mark.parametrize("name", MEMBERS)
def test_outputs_are_those_of_another_implementation_bit_for_bit(name, starting_weights: Folder):
    """The other one gave the logits of timm's tf_efficientnet_lite0; both list their tensors in the same order."""
    theirs = starting_weights.module("efficientnet_lite").EfficientNetLite(name).eval()
    torch.manual_seed(0)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean, std=0.1)
    ours = MEMBERS[name]().eval()
    ours.load_state_dict(by_order(theirs.state_dict(), ours))
    image = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        for mine, other in zip(ours(image)[1:], theirs(image), strict=True):
            assert torch.equal(mine, other)


def test_the_shipped_weights_are_the_published_ones_within_half_precision(starting_weights: Folder):
    """Kernels within half a unit of the last place of fp16 and for BGR; batch norms as they are."""
    published = starting_weights.module("efficientnet_lite").EfficientNetLite("lite0")
    file = starting_weights.path / "efficientnet_lite" / "efficientnet_lite0_backbone.safetensors"
    published.load_state_dict(load_file(file))
    named = by_order(published.state_dict(), efficientnet_lite0())
    shipped = {
        name.removeprefix("efficientnet_lite."): tensor
        for name, tensor in load_file(starting_weights.shipped("imagenet_efficientnet_lite0")).items()
    }
    assert set(shipped) == {name for name in named if not name.endswith("num_batches_tracked")}
    for name, tensor in shipped.items():
        wanted = named[name].flip(1) if name == "stem.conv.weight" else named[name]
        if tensor.ndim == 4:
            assert ((tensor.float() - wanted).abs() <= wanted.abs() * 2.0**-11 + 2.0**-25).all(), name
        else:
            assert torch.equal(tensor, wanted), name

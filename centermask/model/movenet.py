# SPDX-License-Identifier: Apache-2.0
"""MoveNet.MultiPose.Lightning (Google, Apache-2.0) as a start: its trunk is the backbone mobilenet_v2_fpn, its heads
show ours where persons are.

Like CenterMask it is a CenterNet at stride 4, so its heat map, box sizes (height, width in cells) and offsets (y, x in
cells) are ours with the axes the other way round. Its heads are separable convolutions without anything between the
two, which are one 3x3 convolution; its 17 maps of joints have hidden units that know the parts of a body, from which
our shape and saliency start.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from centermask.model.heads import Head
from centermask.model.network import CenterMaskNet

MARK = "movenet.center.0.weight"
SWAPPED = (1, 0)  # y, x -> x, y
SOURCES = {  # our head -> the head there, and its outputs in our order; None: the hidden units alone
    "heatmap": ("center", (0,)),
    "size": ("box_scale", SWAPPED),
    "offset": ("box_offset", SWAPPED),
    "shape": ("kpt_heatmap", None),
    "saliency": ("kpt_heatmap", None),
}


def start_heads(model: CenterMaskNet, found: Mapping[str, Tensor]) -> list[str]:
    """Makes the heads of a model for one class compute what MoveNet's do. Returns the names of the changed parameters.

    The model's features end with the pyramid's map, where MoveNet's heads stand; what the up path computes gets weight
    0 there and is learned. Nothing is changed in a model of several classes or of narrower heads.
    """
    changed: list[str] = []
    if model.num_classes != 1:
        return changed
    for name, (there, outputs) in SOURCES.items():
        head: Head = getattr(model, name)
        first, last = head[0], head[2]
        assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d)
        assert first.bias is not None and last.bias is not None
        hidden_weight, hidden_bias = found[f"movenet.{there}.0.weight"], found[f"movenet.{there}.0.bias"]
        hidden, pyramid = hidden_weight.shape[:2]
        if first.weight.shape[0] < hidden or first.weight.shape[1] <= pyramid:
            return changed
        with torch.no_grad():
            first.weight[:hidden].zero_()
            first.weight[:hidden, -pyramid:].copy_(hidden_weight)
            first.bias[:hidden].copy_(hidden_bias)
            if outputs is not None:
                last.weight.zero_()
                last.weight[:, :hidden].copy_(found[f"movenet.{there}.2.weight"][list(outputs)])
                last.bias.copy_(found[f"movenet.{there}.2.bias"][list(outputs)])
        changed += [f"{name}.0.weight", f"{name}.0.bias"]
        changed += [f"{name}.2.weight", f"{name}.2.bias"] if outputs is not None else []
    return changed

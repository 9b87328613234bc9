# SPDX-License-Identifier: Apache-2.0
"""A model in half precision, fp16 or bf16, as a strongly typed graph wants it: each tensor's type is in the graph.

Islands of fp32, here or in the model's own code, with their reasons:
- batch norms are folded into their convolutions before anything is rounded;
- heat-map logits to top-K (model/network.py): a half-precision sigmoid makes hundreds of false ties;
- offset and size heads at the K peaks and the box arithmetic: a rounded size is a moved edge, and K rows are few;
- sampling positions of deformable convolutions (model/deformable.py);
- bf16 only: transposed convolutions, as TensorRT-RTX has none of depth-wise kind in bf16.
Inputs stay uint8, outputs float32 and int32.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from centermask.model.deformable import DeformableConv
from centermask.model.network import CenterMaskNet

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
SIDE = 128  # of the image that shows which convolution feeds which batch norm: an hourglass takes no smaller one


class Fp32Island(nn.Module):
    """Runs a module in fp32 between half-precision neighbours."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.float()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x.float())
        return y.to(x.dtype)


def half_precision(model: CenterMaskNet, precision: str, graph: str = "peaks") -> CenterMaskNet:
    """A copy of the model in fp16 or bf16 with its fp32 islands, batch norms folded. graph: level of the export."""
    half = fold_batch_norms(model).to(DTYPES[precision])
    if graph == "peaks":
        half.offset.float()
        half.size.float()
    if precision == "bf16":
        for name, module in list(half.named_modules()):
            if isinstance(module, nn.ConvTranspose2d):
                half.set_submodule(name, Fp32Island(module))
    return half


def fold_batch_norms(model: CenterMaskNet) -> CenterMaskNet:
    """A copy in evaluation mode without the batch norms that directly follow one convolution; the same numbers.

    Which follows which is seen by running it once. A convolution or batch norm that is used twice stays as it is.
    """
    folded = copy.deepcopy(model).eval()
    for conv_name, norm_name in _pairs(folded):
        conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
        assert isinstance(norm, nn.BatchNorm2d)
        if isinstance(conv, DeformableConv):
            _fold(conv, norm)
        else:
            assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
            folded.set_submodule(
                conv_name, fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
            )
        folded.set_submodule(norm_name, nn.Identity())
    return folded


def _fold(conv: DeformableConv, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    with torch.no_grad():
        conv.weight.mul_(scale[:, None, None, None])
        conv.bias.copy_((conv.bias - norm.running_mean) * scale + norm.bias)


def _pairs(model: CenterMaskNet) -> list[tuple[str, str]]:
    """Names of (convolution, batch norm) where the norm's input is the very tensor that the convolution gave."""
    made: list[tuple[Tensor, str]] = []  # tensors are kept, so that no later one gets the identity of an earlier
    taken: list[tuple[str, str]] = []
    norm_runs: list[str] = []

    def remember(name: str) -> Any:
        return lambda module, inputs, output: made.append((output, name))

    def look_up(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            norm_runs.append(name)
            taken.extend((conv, name) for output, conv in made if output is inputs[0])

        return hook

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | DeformableConv):
            hooks.append(module.register_forward_hook(remember(name)))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(look_up(name)))
    with torch.inference_mode():
        model.features(torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8, device=model.mean.device))
    for hook in hooks:
        hook.remove()
    conv_runs = [name for _, name in made]
    return [(conv, norm) for conv, norm in taken if conv_runs.count(conv) == 1 and norm_runs.count(norm) == 1]

# SPDX-License-Identifier: Apache-2.0
"""What files that others published call their tensors, and where each tensor goes here.

ucbdrive/dla (BSD-3-Clause), huggingface/pytorch-image-models (Apache-2.0), xingyizhou/CenterNet (MIT),
lukemelas/EfficientNet-PyTorch (Apache-2.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from centermask.model import movenet
from centermask.model.efficientnet_lite import EfficientNetLite
from centermask.model.network import CenterMaskNet

Renames = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CheckpointLayout:
    """The names that some published code gives its tensors, and where each tensor goes here."""

    title: str
    mark: str  # a name that every file of this layout has
    renames: Renames  # pattern at the beginning of a name there -> beginning here
    backbone: str = "dla_34"  # that such a file is for
    rgb_stem: str | None = None  # here: first convolution, where it was trained on RGB; ours sees BGR
    start_heads: Callable[[CenterMaskNet, Mapping[str, Tensor]], list[str]] | None = None  # what does not go by name
    numbered: Callable[[CenterMaskNet], Renames] | None = None  # renames that depend on how many blocks a model has

    def renames_for(self, model: CenterMaskNet) -> Renames:
        return self.renames if self.numbered is None else (*self.renames, *self.numbered(model))


def _hourglass_head(there: str, here: str) -> Renames:
    """Renames one head: stack 0 has a loss in training only; stack 1 is the one that inference uses."""
    return tuple(
        (rf"{there}\.{stack}\.{i}\.", f"{place}{here}.{j}.")
        for stack, place in ((0, "early.0."), (1, ""))
        for i, j in ((r"0\.conv", 0), ("1", 2))
    )


def _timm_block(stage: str, parts: tuple[str, ...]) -> Renames:
    """Renames the convolutions and norms of the blocks of a stage; those of stage 0 do not expand."""
    names = ("expand", "depthwise", "project")[-len(parts) :]
    return tuple(
        rename
        for number, (there, here) in enumerate(zip(parts, names, strict=True), 1)
        for rename in (
            (rf"blocks\.({stage})\.(\d+)\.{there}\.", rf"base.stages.\1.\2.{here}.conv."),
            (rf"blocks\.({stage})\.(\d+)\.bn{number}\.", rf"base.stages.\1.\2.{here}.norm."),
        )
    )


def _numbered_blocks(model: CenterMaskNet) -> Renames:
    """EfficientNet-PyTorch numbers its blocks through all stages."""
    if not isinstance(model.base, EfficientNetLite):
        return ()
    places = [f"{i}.{j}" for i, stage in enumerate(model.base.stages) for j, _ in enumerate(stage.children())]
    parts = (("_expand_conv", "_bn0", "expand"), ("_depthwise_conv", "_bn1", "depthwise"),
             ("_project_conv", "_bn2", "project"))  # fmt: skip
    return tuple(
        (rf"_blocks\.{number}\.{there}\.", f"base.stages.{place}.{part}.{kind}.")
        for number, place in enumerate(places)
        for conv, norm, part in parts
        for there, kind in ((conv, "conv"), (norm, "norm"))
    )


EFFICIENTNET_STEM = "base.stem.conv.weight"
LAYOUTS = (
    CheckpointLayout("weights of CenterMask", "heatmap.0.weight", (("", ""),)),
    CheckpointLayout(
        "a DLA checkpoint of CenterNet",
        "base.base_layer.0.weight",
        (
            (r"base\.", "base."), (r"(dla_up|ida_up)\.", r"up.\1."),
            (r"hm\.", "heatmap."), (r"wh\.", "size."), (r"reg\.", "offset."),
        ),
    ),
    CheckpointLayout(
        "an Hourglass checkpoint of CenterNet",
        "kps.0.up1.0.conv1.weight",
        (
            (r"(pre|kps|cnvs|cnvs_|inters|inters_)\.", r"base.\1."),
            *_hourglass_head("hm", "heatmap"), *_hourglass_head("wh", "size"), *_hourglass_head("reg", "offset"),
        ),
        "hourglass_104",
    ),
    CheckpointLayout(
        "MoveNet MultiPose Lightning", movenet.MARK, ((r"base\.", "base."),), "mobilenet_v2_fpn",
        start_heads=movenet.start_heads,
    ),
    CheckpointLayout(
        "ImageNet weights of EfficientNet-Lite", "efficientnet_lite.stem.conv.weight",
        ((r"efficientnet_lite\.", "base."),), "efficientnet_lite0",
    ),
    CheckpointLayout(
        "ImageNet weights of EfficientNet-Lite, as timm has them", "conv_stem.weight",
        (
            (r"conv_stem\.", "base.stem.conv."), (r"bn1\.", "base.stem.norm."),
            *_timm_block("0", ("conv_dw", "conv_pw")),
            *_timm_block(r"\d+", ("conv_pw", "conv_dw", "conv_pwl")),
        ),
        "efficientnet_lite0", rgb_stem=EFFICIENTNET_STEM,
    ),
    CheckpointLayout(
        "ImageNet weights of EfficientNet-Lite, as EfficientNet-PyTorch has them", "_conv_stem.weight",
        ((r"_conv_stem\.", "base.stem.conv."), (r"_bn0\.", "base.stem.norm.")),
        "efficientnet_lite0", rgb_stem=EFFICIENTNET_STEM, numbered=_numbered_blocks,
    ),
    CheckpointLayout(
        "ImageNet weights of DLA", "base_layer.0.weight", (("", "base."),), rgb_stem="base.base_layer.0.weight"
    ),
)  # fmt: skip

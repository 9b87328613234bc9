# SPDX-License-Identifier: Apache-2.0
"""Names and shapes of the tensors in published weights files, by hand from the published code, not from ours.

ucbdrive/dla (BSD-3-Clause), huggingface/pytorch-image-models (Apache-2.0), xingyizhou/CenterNet (MIT),
lukemelas/EfficientNet-PyTorch (Apache-2.0).
"""

from __future__ import annotations

from tests.model.test_network import official_dla34

Shapes = dict[str, tuple[int, ...]]


def _norm(name: str, width: int) -> Shapes:
    shapes: Shapes = {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes | {f"{name}.num_batches_tracked": ()}


def _conv(name: str, into: int, out: int, kernel: int, bias: bool = False) -> Shapes:
    shapes: Shapes = {f"{name}.weight": (out, into, kernel, kernel)}
    return shapes | {f"{name}.bias": (out,)} if bias else shapes


# ---- DLA ------------------------------------------------------------------------------------------------------------


def timm_dla34() -> Shapes:
    """timm.models.dla.dla34: without the projections whose result is unused."""
    unused = ("level3.project.", "level4.project.")
    return {name: shape for name, shape in official_dla34().items() if not name.startswith(unused)}


def centernet_dla34(classes: int = 80) -> Shapes:
    """DLASeg of pose_dla_dcn.py: ctdet_coco_dla_*.pth. The classifier of ImageNet is still there."""
    shapes = {f"base.{name}": shape for name, shape in official_dla34().items()}
    for ida, out, widths, factors in (
        ("dla_up.ida_0", 256, (512,), (2,)),
        ("dla_up.ida_1", 128, (256, 256), (2, 2)),
        ("dla_up.ida_2", 64, (128, 128, 128), (2, 2, 2)),
        ("ida_up", 64, (128, 256), (2, 4)),
    ):
        for i, (width, factor) in enumerate(zip(widths, factors, strict=True), 1):
            for kind, into in (("proj", width), ("node", out)):
                shapes |= _norm(f"{ida}.{kind}_{i}.actf.0", out)
                shapes |= _conv(f"{ida}.{kind}_{i}.conv", into, out, 3, bias=True)
                shapes |= _conv(f"{ida}.{kind}_{i}.conv.conv_offset_mask", into, 27, 3, bias=True)
            shapes[f"{ida}.up_{i}.weight"] = (out, 1, 2 * factor, 2 * factor)
    for head, outputs in (("hm", classes), ("wh", 2), ("reg", 2)):
        shapes |= _conv(f"{head}.0", 64, 256, 3, bias=True) | _conv(f"{head}.2", 256, outputs, 1, bias=True)
    return shapes


# ---- EfficientNet-Lite ----------------------------------------------------------------------------------------------

# Of Lite0 and Lite2: kernel, and the output channels of each block of a stage.
LITE0 = ((3, (16,)), (3, (24, 24)), (5, (40, 40)), (3, (80,) * 3), (5, (112,) * 3), (5, (192,) * 4), (3, (320,)))
LITE2 = ((3, (16,)), (3, (24,) * 3), (5, (48,) * 3), (3, (88,) * 4), (5, (120,) * 4), (5, (208,) * 5), (3, (352,)))
Stages = tuple[tuple[int, tuple[int, ...]], ...]


def timm_efficientnet_lite(stages: Stages = LITE0) -> Shapes:
    """timm.models.efficientnet.tf_efficientnet_lite0: a block without expansion has two norms, others three."""
    shapes, into = _conv("conv_stem", 3, 32, 3) | _norm("bn1", 32), 32
    for i, (kernel, widths) in enumerate(stages):
        for j, out in enumerate(widths):
            name = f"blocks.{i}.{j}"
            if i == 0:
                shapes |= _conv(f"{name}.conv_dw", 1, into, kernel) | _norm(f"{name}.bn1", into)
                shapes |= _conv(f"{name}.conv_pw", into, out, 1) | _norm(f"{name}.bn2", out)
            else:
                shapes |= _conv(f"{name}.conv_pw", into, 6 * into, 1) | _norm(f"{name}.bn1", 6 * into)
                shapes |= _conv(f"{name}.conv_dw", 1, 6 * into, kernel) | _norm(f"{name}.bn2", 6 * into)
                shapes |= _conv(f"{name}.conv_pwl", 6 * into, out, 1) | _norm(f"{name}.bn3", out)
            into = out
    shapes |= _conv("conv_head", into, 1280, 1) | _norm("bn2", 1280)
    return shapes | {"classifier.weight": (1000, 1280), "classifier.bias": (1000,)}


def pytorch_efficientnet_lite(stages: Stages = LITE0) -> Shapes:
    """EfficientNet-PyTorch and its port to Lite: blocks are numbered through; norm 0 is that of the expansion."""
    shapes, into, number = _conv("_conv_stem", 3, 32, 3) | _norm("_bn0", 32), 32, 0
    for i, (kernel, widths) in enumerate(stages):
        for out in widths:
            name, wide = f"_blocks.{number}", into if i == 0 else 6 * into
            if i:
                shapes |= _conv(f"{name}._expand_conv", into, wide, 1) | _norm(f"{name}._bn0", wide)
            shapes |= _conv(f"{name}._depthwise_conv", 1, wide, kernel) | _norm(f"{name}._bn1", wide)
            shapes |= _conv(f"{name}._project_conv", wide, out, 1) | _norm(f"{name}._bn2", out)
            into, number = out, number + 1
    shapes |= _conv("_conv_head", into, 1280, 1) | _norm("_bn1", 1280)
    return shapes | {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}


# ---- Hourglass ------------------------------------------------------------------------------------------------------


def _residual(name: str, into: int, out: int, stride: int = 1) -> Shapes:
    shapes = _conv(f"{name}.conv1", into, out, 3) | _norm(f"{name}.bn1", out)
    shapes |= _conv(f"{name}.conv2", out, out, 3) | _norm(f"{name}.bn2", out)
    if stride != 1 or into != out:
        shapes |= _conv(f"{name}.skip.0", into, out, 1) | _norm(f"{name}.skip.1", out)
    return shapes


def _kp_module(name: str, dims: tuple[int, ...], modules: tuple[int, ...]) -> Shapes:
    here, inner, count = dims[0], dims[1], modules[0]
    shapes: Shapes = {}
    for i in range(count):
        shapes |= _residual(f"{name}.up1.{i}", here, here)
        shapes |= _residual(f"{name}.low1.{i}", inner if i else here, inner, stride=1 if i else 2)
        shapes |= _residual(f"{name}.low3.{i}", inner, here if i == count - 1 else inner)
    if len(dims) > 2:
        return shapes | _kp_module(f"{name}.low2", dims[1:], modules[1:])
    for i in range(modules[1]):
        shapes |= _residual(f"{name}.low2.{i}", inner, inner)
    return shapes


def centernet_hourglass(
    stem: int = 128,
    dims: tuple[int, ...] = (256, 256, 384, 384, 384, 512),
    modules: tuple[int, ...] = (2, 2, 2, 2, 2, 4),
    features: int = 256,
    head_width: int = 256,
    classes: int = 80,
) -> Shapes:
    """HourglassNet of large_hourglass.py: ctdet_coco_hg.pth."""
    curr = dims[0]
    shapes = _conv("pre.0.conv", 3, stem, 7) | _norm("pre.0.bn", stem) | _residual("pre.1", stem, curr, stride=2)
    for stack in range(2):
        shapes |= _kp_module(f"kps.{stack}", dims, modules)
        shapes |= _conv(f"cnvs.{stack}.conv", curr, features, 3) | _norm(f"cnvs.{stack}.bn", features)
        for head, outputs in (("hm", classes), ("wh", 2), ("reg", 2)):
            shapes |= _conv(f"{head}.{stack}.0.conv", features, head_width, 3, bias=True)
            shapes |= _conv(f"{head}.{stack}.1", head_width, outputs, 1, bias=True)
    shapes |= _residual("inters.0", curr, curr)
    shapes |= _conv("inters_.0.0", curr, curr, 1) | _norm("inters_.0.1", curr)
    shapes |= _conv("cnvs_.0.0", features, curr, 1) | _norm("cnvs_.0.1", curr)
    return shapes

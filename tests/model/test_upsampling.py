# SPDX-License-Identifier: Apache-2.0
"""The up path: CenterNet's names, widths and convolutions as the config wants them, and a map that is passed on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from centermask.config import Config, InputConfig, ModelConfig
from centermask.model.network import build_model
from centermask.model.upsampling import BilinearUp, UpPath

CHANNELS = (16, 32, 64, 128, 256, 512)


def maps_of(channels: tuple[int, ...], *more: int) -> list[torch.Tensor]:
    """Six maps of an image of 64 x 96, and further ones at stride 4."""
    torch.manual_seed(0)
    maps = [torch.randn(1, width, 64 >> level, 96 >> level) for level, width in enumerate(channels)]
    return maps + [torch.randn(1, width, 16, 24) for width in more]


def multiplications(path: UpPath) -> int:
    """Weights of the 3x3 and 1x1 convolutions; each is used once per cell of its map."""
    return sum(one.numel() for name, one in path.named_parameters() if ".conv." in name and name.endswith("weight"))


def test_it_has_centernets_names():
    """`up.dla_up.ida_0.proj_1...` here is `dla_up.ida_0.proj_1...` there: CenterNet has no submodule around both."""
    names = set(UpPath(CHANNELS).state_dict())
    expected = set()
    idas = {"dla_up.ida_0": 2, "dla_up.ida_1": 3, "dla_up.ida_2": 4, "ida_up": 3}  # maps that each merges
    batch_norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for ida, maps in idas.items():
        for i in range(1, maps):
            expected |= {f"{ida}.{kind}_{i}.actf.0.{part}" for kind in ("proj", "node") for part in batch_norm}
            expected |= {f"{ida}.{kind}_{i}.conv.weight" for kind in ("proj", "node")} | {f"{ida}.up_{i}.weight"}
    assert names == expected
    model = build_model(Config("x", ModelConfig("dla_34", 16, 8), InputConfig((96, 128))), 3)
    model_names = set(model.state_dict())
    assert {f"up.{name}" for name in expected} <= model_names and "base.level5.root.conv.weight" in model_names


def test_up_sampling_starts_bilinear():
    """As OpenCV means it, pixel centres at half-integers; the outermost pixels fade to the zeros outside."""
    ramp = torch.arange(6.0).repeat(6, 1)[None, None]
    raised = BilinearUp(1, 2)(ramp)[0, 0].detach().numpy()
    expected = cv2.resize(ramp[0, 0].numpy(), (12, 12), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(raised[1:-1, 1:-1], expected[1:-1, 1:-1], atol=1e-6)


def test_widths_are_those_of_the_config_and_need_not_rise():
    """A 1x1 convolution brings each level there; without widths there is none."""
    path = UpPath(CHANNELS, widths=(48, 24, 40, 56))
    assert path(maps_of(CHANNELS)).shape == (1, 48, 16, 24) and path.feature_channels == 48
    laterals = {name: tuple(one.shape) for name, one in path.named_parameters() if "laterals" in name and one.ndim == 4}
    assert laterals == {
        f"laterals.{i}.0.weight": (width, CHANNELS[i + 2], 1, 1) for i, width in enumerate((48, 24, 40, 56))
    }
    assert UpPath(CHANNELS).laterals is None and UpPath(CHANNELS).feature_channels == 64


def test_a_separable_up_path_has_about_a_ninth_of_the_weights():
    plain, separable = UpPath(CHANNELS), UpPath(CHANNELS, "separable")
    assert separable(maps_of(CHANNELS)).shape == plain(maps_of(CHANNELS)).shape
    assert multiplications(plain) / multiplications(separable) == pytest.approx(9, rel=0.1)


def test_a_seventh_map_goes_into_the_features_as_it_is():
    path = UpPath(CHANNELS, appended=24)
    maps = maps_of(CHANNELS, 24)
    features = path(maps)
    assert path.feature_channels == features.shape[1] == 64 + 24
    assert torch.equal(features[:, 64:], maps[6])


@pytest.mark.parametrize("backbone", ["dla_46c", "efficientnet_lite1", "mobilenet_v2_fpn"])
def test_any_backbone_takes_a_narrow_separable_up_path(backbone):
    config = ModelConfig(backbone, 16, 8, up_channels=(16, 24, 24, 32), up_conv="separable")
    model = build_model(Config("x", config, InputConfig((64, 96))), 2).eval()
    with torch.no_grad():
        features = model.features(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
    assert features.shape == (1, 16 + (24 if backbone == "mobilenet_v2_fpn" else 0), 16, 24)

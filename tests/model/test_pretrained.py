# SPDX-License-Identifier: Apache-2.0
"""Starting weights: published files load by name, completely; what does not fit is reported; nothing is executed."""

from __future__ import annotations

import dataclasses
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from centermask.config import Config, InputConfig, ModelConfig
from centermask.model import network
from centermask.model.hourglass import Hourglass
from centermask.model.network import CenterMaskNet, build_model
from centermask.model.pretrained import Mismatch, load_starting_weights
from centermask.model.weights import load_weights
from centermask_runtime.errors import ModelError
from tests.model.test_network import official_dla34
from tests.support.places import ROOT
from tests.support.published_names import (
    LITE0,
    LITE2,
    Shapes,
    centernet_dla34,
    centernet_hourglass,
    pytorch_efficientnet_lite,
    timm_dla34,
    timm_efficientnet_lite,
)

NUCLEI = ROOT / "centermask" / "released" / "nuclei_dla_46c.safetensors"
TINY_HOURGLASS = {"stem": 8, "dims": (8, 8, 12, 12, 12, 16), "modules": (1, 2, 1, 1, 2, 1), "features": 10}


def model_of(
    backbone: str = "dla_34", *, deformable: bool = False, classes: int = 80, heads: int = 256
) -> CenterMaskNet:
    torch.manual_seed(1)
    config = ModelConfig(backbone, heads, shape_size=8, saliency="class_agnostic", deformable=deformable)
    return build_model(Config("start", config, InputConfig(size=(128, 128))), classes)


def state_of(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random values; counters are whole numbers, as batch norm has them."""
    g = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=g) if not name.endswith("tracked") else torch.tensor(7)
        for name, shape in shapes.items()
    }


def without_counters(names) -> set[str]:
    return {name for name in names if not name.endswith("num_batches_tracked")}


# ---- ImageNet -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    """As dla34-ba72cf86.pth, which is older than the counters of batch norm."""
    shapes = official_dla34()
    return state_of({name: shapes[name] for name in shapes if name in without_counters(shapes)})


@pytest.mark.parametrize("zipped", [True, False], ids=["new format", "format of 2018"])
def test_the_official_imagenet_file_fills_the_backbone(official, tmp_path, zipped):
    path = tmp_path / "dla34-ba72cf86.pth"
    torch.save(official, path, _use_new_zipfile_serialization=zipped)
    model = model_of()
    report = load_starting_weights(model, path)
    backbone = {name for name in model.state_dict() if name.startswith("base.")}
    assert set(report.used) == without_counters(backbone) and report.mismatched == ()
    unused = {"fc.weight", "fc.bias"} | {n for n in official if n.startswith(("level3.project.", "level4.project."))}
    assert set(report.skipped) == unused
    assert not any(name.startswith("base.") for name in report.untouched)
    assert "up.ida_up.node_1.conv.weight" in report.untouched and "heatmap.0.weight" in report.untouched
    state = model.state_dict()
    for name in without_counters(backbone) - {"base.base_layer.0.weight"}:
        assert torch.equal(state[name], official[name.removeprefix("base.")]), name


def test_imagenet_weights_see_the_colours_they_were_trained_on(official, tmp_path):
    """They were trained on RGB; ours get BGR."""
    torch.save(official, tmp_path / "dla34.pth")
    model = model_of()
    load_starting_weights(model, tmp_path / "dla34.pth")
    rgb = torch.randn(1, 3, 16, 16)
    theirs = torch.conv2d(rgb, official["base_layer.0.weight"], padding=3)
    torch.testing.assert_close(model.base.base_layer[0](rgb.flip(1)), theirs, atol=1e-4, rtol=1e-5)


def test_timms_safetensors_fill_the_backbone(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(state_of(timm_dla34()), path)
    model = model_of(deformable=True)
    report = load_starting_weights(model, path)
    assert set(report.used) == {name for name in model.state_dict() if name.startswith("base.")}
    assert set(report.skipped) == {"fc.weight", "fc.bias"} and report.mismatched == ()
    assert report.layout == "ImageNet weights of DLA"


def test_weights_of_another_dla_are_mismatched_and_leave_the_model_alone(official, tmp_path):
    torch.save(official, tmp_path / "dla34.pth")
    model = model_of("dla_46c")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_starting_weights(model, tmp_path / "dla34.pth")
    wrong = {one.name: one for one in report.mismatched}
    name = "base.level2.tree1.conv1.weight"
    assert wrong[name] == Mismatch(name, (64, 32, 3, 3), (32, 32, 1, 1))
    assert torch.equal(model.state_dict()[name], before[name])
    assert not set(wrong) & set(report.used) and not set(wrong) & set(report.untouched)


@pytest.mark.parametrize(("backbone", "stages"), [("efficientnet_lite0", LITE0), ("efficientnet_lite2", LITE2)])
@pytest.mark.parametrize("names", [timm_efficientnet_lite, pytorch_efficientnet_lite])
def test_imagenet_weights_of_efficientnet_lite_fill_the_backbone(tmp_path, backbone, stages, names):
    state = state_of(names(stages))
    save_file(state, tmp_path / "model.safetensors")
    model = model_of(backbone, heads=16)
    report = load_starting_weights(model, tmp_path / "model.safetensors")
    assert set(report.used) == {name for name in model.state_dict() if name.startswith("base.")}
    classifier = ("conv_head.", "bn2.", "classifier.", "_conv_head.", "_bn1.", "_fc.")
    assert set(report.skipped) == {name for name in state if name.startswith(classifier)}
    assert report.mismatched == () and report.layout.startswith("ImageNet weights of EfficientNet-Lite, as ")
    assert report.parts()["whole"] == ("base",) and "heatmap" in report.parts()["at random"]
    ours = model.state_dict()
    stem = "conv_stem.weight" if "conv_stem.weight" in state else "_conv_stem.weight"
    assert torch.equal(ours["base.stem.conv.weight"], state[stem].flip(1))


def test_values_of_efficientnet_lite_go_where_they_belong(tmp_path):
    """Block 5 of Lite0 is the first of stage 3: before it are one block and two stages of two."""
    model, there = model_of("efficientnet_lite0", heads=16), "base.stages.3.0."
    for names, pairs in (
        (timm_efficientnet_lite, {
            "blocks.3.0.conv_pw.weight": "expand.conv.weight", "blocks.3.0.bn1.running_var": "expand.norm.running_var",
            "blocks.3.0.conv_dw.weight": "depthwise.conv.weight", "blocks.3.0.bn2.bias": "depthwise.norm.bias",
            "blocks.3.0.conv_pwl.weight": "project.conv.weight", "blocks.3.0.bn3.weight": "project.norm.weight",
        }),
        (pytorch_efficientnet_lite, {
            "_blocks.5._expand_conv.weight": "expand.conv.weight",
            "_blocks.5._bn0.running_var": "expand.norm.running_var",
            "_blocks.5._depthwise_conv.weight": "depthwise.conv.weight", "_blocks.5._bn1.bias": "depthwise.norm.bias",
            "_blocks.5._project_conv.weight": "project.conv.weight", "_blocks.5._bn2.weight": "project.norm.weight",
        }),
    ):  # fmt: skip
        state = state_of(names())
        torch.save(state, tmp_path / "weights.pth")
        load_starting_weights(model, tmp_path / "weights.pth")
        for name, here in pairs.items():
            assert torch.equal(model.state_dict()[there + here], state[name]), name


@pytest.mark.parametrize("names", [timm_efficientnet_lite, pytorch_efficientnet_lite])
def test_weights_of_efficientnet_lite_for_a_dla_name_the_backbone(tmp_path, names):
    save_file(state_of(names()), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"none of its 296 tensors fits this model; .* such as efficientnet_lite0"):
        load_starting_weights(model_of("dla_46c", heads=16), tmp_path / "model.safetensors")


def test_the_shipped_imagenet_weights_fill_the_backbone():
    model = model_of("efficientnet_lite0", heads=16)
    report = load_starting_weights(model, ROOT / "centermask" / "starting" / "imagenet_efficientnet_lite0.safetensors")
    assert set(report.used) == without_counters(name for name in model.state_dict() if name.startswith("base."))
    assert report.skipped == () and report.mismatched == ()


# ---- CenterNet ------------------------------------------------------------------------------------------------------


def checkpoint(path: Path, state: dict[str, torch.Tensor]) -> Path:
    """As CenterNet's save_model writes it, from a model in DataParallel."""
    inside = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"epoch": 140, "state_dict": inside, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}}, path)
    return path


@pytest.fixture(scope="module")
def ctdet_dla(tmp_path_factory):
    state = state_of(centernet_dla34())
    return state, checkpoint(tmp_path_factory.mktemp("centernet") / "ctdet_coco_dla_2x.pth", state)


def test_centernets_dla_checkpoint_fills_backbone_up_path_and_three_heads(ctdet_dla):
    state, path = ctdet_dla
    model = model_of(deformable=True)
    report = load_starting_weights(model, path)
    new = ("shape.", "saliency.")
    assert set(report.used) == {name for name in model.state_dict() if not name.startswith(new)}
    assert set(report.untouched) == {name for name in model.state_dict() if name.startswith(new)}
    assert report.mismatched == ()
    assert all(name.startswith(("base.fc.", "base.level3.project.", "base.level4.project.")) for name in report.skipped)
    ours = model.state_dict()
    for there, here in (
        ("base.base_layer.0.weight", "base.base_layer.0.weight"),  # CenterNet reads BGR too
        ("dla_up.ida_0.proj_1.conv.conv_offset_mask.weight", "up.dla_up.ida_0.proj_1.conv.conv_offset_mask.weight"),
        ("ida_up.up_2.weight", "up.ida_up.up_2.weight"), ("hm.2.bias", "heatmap.2.bias"),
        ("wh.0.weight", "size.0.weight"), ("reg.2.weight", "offset.2.weight"),
    ):  # fmt: skip
        assert torch.equal(ours[here], state[there]), here


def test_other_classes_are_reported_with_both_shapes(ctdet_dla):
    report = load_starting_weights(model_of(deformable=True, classes=3), ctdet_dla[1])
    assert report.mismatched == (
        Mismatch("heatmap.2.weight", (80, 256, 1, 1), (3, 256, 1, 1)),
        Mismatch("heatmap.2.bias", (80,), (3,)),
    )
    assert "2 of another shape" in str(report)
    assert report.in_words("ctdet_coco_dla_2x").endswith(
        "base, up, offset, size whole; heatmap in part; shape, saliency at random."
    )


def test_the_plain_up_path_takes_the_taps_and_reports_offsets_as_skipped(ctdet_dla):
    report = load_starting_weights(model_of(), ctdet_dla[1])
    assert "up.dla_up.ida_0.proj_1.conv.weight" in report.used
    assert "dla_up.ida_0.proj_1.conv.conv_offset_mask.weight" in report.skipped
    assert "dla_up.ida_0.proj_1.conv.bias" in report.skipped


def test_centernets_hourglass_checkpoint_fills_both_stacks(tmp_path):
    """At the published size, 191 million numbers: names and shapes, on tensors that share one number each."""
    state = {name: torch.zeros(()).expand(shape) for name, shape in centernet_hourglass().items()}
    path = checkpoint(tmp_path / "ctdet_coco_hg.pth", state)
    with torch.device("meta"):
        model = model_of("hourglass_104")
    report = load_starting_weights(model, path)
    new = ("shape.", "saliency.", "early.0.shape.", "early.0.saliency.")
    assert set(report.used) == {name for name in model.state_dict() if not name.startswith(new)}
    assert len(report.used) == len(state) and report.skipped == () and report.mismatched == ()


def test_hourglass_values_go_where_they_belong(tmp_path, monkeypatch):
    """Stack 0's heads are the early ones; stack 1's are those of inference."""
    state = state_of(centernet_hourglass(**TINY_HOURGLASS, head_width=6, classes=3))
    tiny = TINY_HOURGLASS
    monkeypatch.setitem(
        network.BACKBONES, "hourglass_104",
        lambda: Hourglass(2, tiny["stem"], tiny["dims"], tiny["modules"], tiny["features"]),
    )  # fmt: skip
    model = model_of("hourglass_104", classes=3, heads=6)
    load_starting_weights(model, checkpoint(tmp_path / "hg.pth", state))
    ours = model.state_dict()
    for there, here in (
        ("hm.0.0.conv.weight", "early.0.heatmap.0.weight"), ("hm.1.0.conv.bias", "heatmap.0.bias"),
        ("wh.0.1.weight", "early.0.size.2.weight"), ("wh.1.1.bias", "size.2.bias"),
        ("reg.1.1.weight", "offset.2.weight"),
        ("inters_.0.0.weight", "base.inters_.0.0.weight"), ("inters.0.conv1.weight", "base.inters.0.conv1.weight"),
        ("cnvs_.0.1.running_var", "base.cnvs_.0.1.running_var"), ("cnvs.1.conv.weight", "base.cnvs.1.conv.weight"),
        ("kps.0.low2.low2.low1.0.skip.0.weight", "base.kps.0.low2.low2.low1.0.skip.0.weight"),
    ):  # fmt: skip
        assert torch.equal(ours[here], state[there]), here


# ---- our own --------------------------------------------------------------------------------------------------------


def test_released_weights_load_but_for_the_heads_of_other_classes():
    model, spec, config = load_weights(NUCLEI)
    whole = load_starting_weights(build_model(config, spec.num_classes), NUCLEI)
    assert set(whole.used) == set(model.state_dict()) and not whole.mismatched + whole.skipped + whole.untouched
    three = build_model(
        dataclasses.replace(config, model=dataclasses.replace(config.model, saliency="class_specific")), 3
    )
    report = load_starting_weights(three, NUCLEI)
    heads = {"heatmap.2.weight", "heatmap.2.bias", "saliency.2.weight", "saliency.2.bias"}
    assert {one.name for one in report.mismatched} == heads
    assert set(report.used) == set(model.state_dict()) - heads
    assert torch.equal(three.state_dict()["shape.2.weight"], model.state_dict()["shape.2.weight"])


# ---- files that are wrong, or worse ---------------------------------------------------------------------------------


class Hostile:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, how):
    mark, path = tmp_path / "was_here", tmp_path / "weights.pth"
    content = {"state_dict": {"base_layer.0.weight": torch.zeros(16, 3, 7, 7), "x": Hostile(mark)}}
    if how == "pickle":
        path.write_bytes(pickle.dumps(Hostile(mark), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(ModelError, match=r"holds more than tensors \((posix|nt)\.system\), which could run code"):
        load_starting_weights(model_of("dla_46c"), path)
    assert not mark.exists()
    if how == "zip":
        torch.load(path, weights_only=False)
        assert mark.exists()  # the file was dangerous indeed


def test_a_file_of_something_else_says_what_it_looks_like(tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64)}, path)
    with pytest.raises(
        ModelError, match=r"its 2 tensors have names that are not known here \(conv1.weight \[64, 3, 7, 7\]"
    ):
        load_starting_weights(model_of("dla_46c"), path)
    torch.save({"epoch": 3, "state_dict": {}}, path)
    with pytest.raises(ModelError, match="it holds no tensors"):
        load_starting_weights(model_of("dla_46c"), path)
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="it holds no tensors"):
        load_starting_weights(model_of("dla_46c"), path)


def test_a_file_of_which_nothing_fits_names_the_config_that_goes_with_it(tmp_path):
    shapes = {name: shape for name, shape in centernet_hourglass().items() if name.startswith("kps.0.up1.")}
    path = checkpoint(tmp_path / "hg.pth", {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()})
    with pytest.raises(ModelError, match=r"looks like an Hourglass checkpoint.*none of its 24 tensors.*hourglass_104"):
        load_starting_weights(model_of("dla_46c"), path)


def test_unreadable_files_are_named(tmp_path):
    model = model_of("dla_46c")
    with pytest.raises(ModelError, match="There is no weights file"):
        load_starting_weights(model, tmp_path / "none.pth")
    with pytest.raises(ModelError, match="cannot be read as a weights file"):
        load_starting_weights(model, tmp_path)
    whole = tmp_path / "whole.pth"
    torch.save({"base_layer.0.weight": torch.zeros(16, 3, 7, 7)}, whole)
    path = tmp_path / "wrong"
    for content in (b"", b"x", b"no weights at all\n" * 9, whole.read_bytes()[:300], whole.read_bytes()[300:]):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="is neither a PyTorch nor a safetensors file that can be read"):
            load_starting_weights(model, path)
    path.write_bytes(NUCLEI.read_bytes()[:5000])
    with pytest.raises(ModelError, match="is not a readable safetensors file"):
        load_starting_weights(model, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(ModelError, match="is neither a PyTorch nor"):
        load_starting_weights(model, path)

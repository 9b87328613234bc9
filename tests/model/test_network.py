# SPDX-License-Identifier: Apache-2.0
"""The network: published names, sparse heads equal to dense ones, the reference's peaks, gradients everywhere."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn

from centermask.config import AugmentConfig, Config, InputConfig, ModelConfig, TrainConfig
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import TrainingSet, collate
from centermask.model.dla import dla_34, dla_46c
from centermask.model.heads import Head, neighbourhoods
from centermask.model.network import CenterMaskNet
from centermask.training.losses import centermask_losses
from centermask_runtime.geometry import Letterbox
from centermask_runtime.reference import peaks as reference
from centermask_runtime.reference import preprocess
from tests.support.places import NUCLEI

INPUT = InputConfig(size=(96, 128))


def model_of(
    backbone: str = "dla_46c", classes: int = 3, *, k: int = 20, saliency: str = "class_specific"
) -> CenterMaskNet:
    torch.manual_seed(0)
    config = ModelConfig(backbone, head_channels=16, shape_size=8, saliency=saliency, max_detections=k)
    return CenterMaskNet(config, INPUT, classes).eval()


def letterboxed(dataset: Dataset, count: int, input_hw: tuple[int, int]) -> torch.Tensor:
    """The first images of a data set as the network takes them, uint8 [count, H, W, 3]."""
    frames = [dataset.image(index) for index in range(count)]
    boxes = [Letterbox.fit((frame.shape[0], frame.shape[1]), input_hw) for frame in frames]
    return torch.from_numpy(np.stack([preprocess.letterbox(*pair) for pair in zip(frames, boxes, strict=True)]))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Five microscopy images, uint8 [5, 96, 128, 3]."""
    return letterboxed(load_dataset(find_split(NUCLEI, "val")), 5, INPUT.size)


def enliven(model: CenterMaskNet, images: torch.Tensor) -> CenterMaskNet:
    """Random weights that behave like trained ones: batch norms calibrated on the images, outputs that vary."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain average
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        features = model.features(images)
        for head, spread, middle in (
            (model.heatmap, 2.0, -2.0), (model.offset, 0.3, 0.5), (model.size, 4.0, 6.0),
            (model.shape, 3.0, 0.0), (model.saliency, 3.0, 0.0),
        ):  # fmt: skip
            out = head(features)
            last = head[2]
            scale = spread / out.std()
            last.weight.mul_(scale)
            last.bias.copy_((last.bias - out.mean()) * scale + middle)
    return model.eval()


# ---- names and sizes ------------------------------------------------------------------------------------------------


def official_dla34() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict of ucbdrive/dla's dla34, by hand from its structure."""
    names: dict[str, tuple[int, ...]] = {}

    def conv(name: str, into: int, out: int, kernel: int) -> None:
        names[f"{name}.weight"] = (out, into, kernel, kernel)

    def norm(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            names[f"{name}.{part}"] = (width,)
        names[f"{name}.num_batches_tracked"] = ()

    def pair(name: str, into: int, out: int, kernel: int) -> None:
        conv(f"{name}.0", into, out, kernel)
        norm(f"{name}.1", out)

    def block(name: str, into: int, out: int) -> None:
        conv(f"{name}.conv1", into, out, 3)
        norm(f"{name}.bn1", out)
        conv(f"{name}.conv2", out, out, 3)
        norm(f"{name}.bn2", out)

    def leaf(name: str, into: int, out: int, root: int) -> None:
        block(f"{name}.tree1", into, out)
        block(f"{name}.tree2", out, out)
        conv(f"{name}.root.conv", root, out, 1)
        norm(f"{name}.root.bn", out)
        if into != out:
            pair(f"{name}.project", into, out, 1)

    pair("base_layer", 3, 16, 7)
    pair("level0", 16, 16, 3)
    pair("level1", 16, 32, 3)
    leaf("level2", 32, 64, root=64 + 64)
    leaf("level3.tree1", 64, 128, root=128 + 128)
    leaf("level3.tree2", 128, 128, root=128 + 128 + 64 + 128)  # two blocks, level3's input, tree1
    pair("level3.project", 64, 128, 1)
    leaf("level4.tree1", 128, 256, root=256 + 256)
    leaf("level4.tree2", 256, 256, root=256 + 256 + 128 + 256)
    pair("level4.project", 128, 256, 1)
    leaf("level5", 256, 512, root=512 + 512 + 256)
    names["fc.weight"], names["fc.bias"] = (1000, 512, 1, 1), (1000,)
    return names


def test_dla_34_has_the_published_names_and_shapes():
    """Left out of the published weights on purpose: the classifier, and projections whose result is unused."""
    ours = {name: tuple(tensor.shape) for name, tensor in dla_34().state_dict().items()}
    absent = re.compile(r"(fc|level3\.project|level4\.project)\.")
    assert ours == {name: shape for name, shape in official_dla34().items() if not absent.match(name)}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_the_published_ones():
    """As timm's, which leaves out unused projections too: dla34 15,742,104, dla46_c 1,301,400 with classifier."""
    assert parameters(dla_34()) == 15_742_104 - (512 * 1000 + 1000)
    assert parameters(dla_46c()) == 1_301_400 - (256 * 1000 + 1000)


# ---- input ----------------------------------------------------------------------------------------------------------


def test_input_is_normalised_by_the_specs_numbers_in_bgr_order():
    model = model_of()
    seen: list[torch.Tensor] = []
    model.base.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    image[0, 0, 0] = torch.tensor([255, 128, 7])  # blue, green, red
    model.features(image)
    blue, green, red = (
        (value / 255 - mean) / std
        for value, mean, std in zip(
            (255, 128, 7), (0.40789654, 0.44719302, 0.47026115), (0.28863828, 0.27408164, 0.27809835), strict=True
        )
    )
    np.testing.assert_allclose(seen[0][0, :, 0, 0], (blue, green, red), rtol=1e-5)
    np.testing.assert_allclose(seen[0][0, 0, 9, 9], -0.40789654 / 0.28863828, rtol=1e-5)


# ---- sparse heads ---------------------------------------------------------------------------------------------------


def test_a_head_at_cells_is_the_dense_head_there_at_borders_too():
    torch.manual_seed(1)
    head, features = Head(5, 7, 4, bias=0.3), torch.randn(2, 5, 6, 9)
    dense = head(features)  # [2, 4, 6, 9]
    image_index, cells = torch.arange(2).repeat_interleave(54), torch.arange(54).repeat(2)
    at = head.at(neighbourhoods(features, image_index, cells))
    torch.testing.assert_close(at, dense.flatten(2).transpose(1, 2).reshape(-1, 4), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("backbone", "saliency"), [("dla_46c", "class_specific"), ("dla_34", "class_agnostic")])
def test_sparse_heads_equal_dense_heads_on_real_images(images, backbone, saliency):
    model = enliven(model_of(backbone, saliency=saliency), images)
    _same_peaks(model, images)


def test_a_shape_head_of_another_width_changes_no_other_head(images):
    config = ModelConfig("efficientnet_lite0", 16, 8, max_detections=20, up_channels=(8, 8, 8, 8), shape_channels=48)
    torch.manual_seed(0)
    model = enliven(CenterMaskNet(config, INPUT, 1), images)
    widths = {name: getattr(model, name)[0].out_channels for name in ("heatmap", "offset", "size", "shape", "saliency")}
    assert widths == {"heatmap": 16, "offset": 16, "size": 16, "shape": 48, "saliency": 16}
    _same_peaks(model, images)


def test_sparse_heads_equal_dense_heads_on_photographs(shared_data):
    images = letterboxed(load_dataset(find_split(shared_data / "coco", "val")), 3, (128, 160))
    _same_peaks(enliven(model_of("dla_34", classes=80, k=100), images), images)


def _same_peaks(model: CenterMaskNet, images: torch.Tensor) -> None:
    with torch.inference_mode():
        sparse, dense = model.peaks(images), model.peaks_dense(images)
    assert sparse.scores.min() > 0 and sparse.shapes.std() > 1  # there is something to compare
    for name, ours, truth in zip(sparse._fields, sparse, dense, strict=True):
        assert ours.shape == truth.shape and ours.dtype == truth.dtype
        assert (ours.double() - truth.double()).abs().max() < 1e-4, name


def test_training_outputs_at_the_peaks_are_what_inference_gives(images):
    model = enliven(model_of(), images)
    with torch.inference_mode():
        peaks = model.peaks(images)
        heatmap = model.heatmap(model.features(images))
        _, _, flat = model.top_peaks(heatmap)
        width = heatmap.shape[3]
        index = torch.arange(5).repeat_interleave(20)
        out = model(images, index, torch.stack((flat // width, flat % width), -1).reshape(-1, 2))
    torch.testing.assert_close(out.heatmap, heatmap)
    torch.testing.assert_close(out.shapes, peaks.shapes.flatten(0, 1), atol=1e-4, rtol=1e-5)
    sides = (peaks.boxes[..., 2:] - peaks.boxes[..., :2]).reshape(-1, 2)
    torch.testing.assert_close(out.sizes.clamp(min=0) * 4, sides, atol=1e-3, rtol=1e-5)


# ---- peaks and boxes against the NumPy reference --------------------------------------------------------------------


def test_peaks_and_boxes_are_the_references(images):
    """Same heat map, offsets and sizes: the same cells, labels and boxes. Scores differ by rounding of two sigmoids."""
    model = enliven(model_of(), images)
    with torch.inference_mode():
        features = model.features(images)
        heatmap, offset, size = (head(features).numpy() for head in (model.heatmap, model.offset, model.size))
        ours = model.peaks(images)
    for n in range(len(images)):
        truth = reference.top_peaks(heatmap[n], 20)
        y, x = truth.cells_yx.T
        boxes = reference.decode_boxes(truth.cells_yx, offset[n][:, y, x].T, size[n][:, y, x].T, 4)
        np.testing.assert_allclose(ours.scores[n], truth.scores, atol=2e-7)
        np.testing.assert_array_equal(ours.labels[n], truth.labels)
        np.testing.assert_allclose(ours.boxes[n], boxes, atol=1e-3)
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 0


def test_few_peaks_are_filled_with_score_zero():
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    hill = -(y - 3).abs() - (x - 4).abs()
    logits = torch.stack((hill - 1, hill))[None]
    scores, labels, cells = model_of().top_peaks(logits)
    truth = reference.top_peaks(logits[0].numpy(), 20)
    np.testing.assert_allclose(scores[0], truth.scores, atol=2e-7)
    assert labels[0, :2].tolist() == [1, 0] and cells[0, :2].tolist() == [3 * 8 + 4] * 2
    assert not scores[0, 2:].any()


def test_a_cell_that_is_not_a_number_is_no_peak():
    logits = torch.full((1, 2, 8, 8), -3.0)
    logits[0, 0, 2, 2], logits[0, 1, 5, 5] = float("nan"), 1.0
    scores, labels, cells = model_of().top_peaks(logits)
    assert scores.isfinite().all() and (labels[0, 0], cells[0, 0]) == (1, 5 * 8 + 5)


def test_a_cell_that_is_not_a_number_does_not_hide_its_neighbour():
    logits = torch.full((1, 1, 8, 8), -3.0)
    logits[0, 0, 4, 4], logits[0, 0, 4, 5] = float("nan"), 1.0
    scores, _, cells = model_of().top_peaks(logits)
    truth = reference.top_peaks(logits[0].numpy(), 20)
    np.testing.assert_allclose(scores[0], truth.scores, atol=2e-7)
    assert cells[0, 0] == 4 * 8 + 5


def test_equal_neighbours_are_both_peaks():
    logits = torch.full((1, 1, 8, 8), -50.0)
    logits[0, 0, 4, 4] = logits[0, 0, 4, 5] = 1.5
    scores, _, cells = model_of().top_peaks(logits)
    assert scores[0, 0] == scores[0, 1] and set(cells[0, :2].tolist()) == {36, 37}


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["dla_46c", "dla_34"])
@pytest.mark.parametrize("objects", [True, False], ids=["objects", "empty images"])
def test_every_parameter_gets_a_gradient(backbone, objects):
    """Also without a single object: a parameter outside the graph would stop distributed training."""
    config = Config(
        "tiny", ModelConfig(backbone, 16, 8, "class_specific", 20), INPUT, TrainConfig(augment=AugmentConfig())
    )
    samples = TrainingSet(load_dataset(find_split(NUCLEI, "train")), config, augmented=False)
    batch = collate([samples[0], samples[1]])
    if not objects:
        samples._source = lambda index: (samples.dataset.image(index), [])  # type: ignore[method-assign]
        batch = collate([samples[0], samples[1]])
    assert (len(batch.labels) > 0) == objects
    torch.manual_seed(0)
    model = CenterMaskNet(config.model, config.input, 1).train()
    losses = centermask_losses(model(batch.images, batch.image_index, batch.cells), batch, config.train.loss)
    losses.total.backward()
    assert losses.total.isfinite()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    if objects:
        assert [name for name, p in model.named_parameters() if not p.grad.any()] == []

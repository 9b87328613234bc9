# SPDX-License-Identifier: Apache-2.0
"""Mosaic: every object stays where its pixels are. Pixels and masks against a slow composition, one pixel at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centermask.config import AugmentConfig, Config, InputConfig, ModelConfig, TrainConfig
from centermask.data.augment.mosaic import PARTS, draw_mosaic
from centermask.data.dataset import ObjectMask, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import TrainingSet
from centermask.data.sampling import Draw
from centermask.data.synthetic import draw_scene, write_shapes
from centermask_runtime.geometry import PAD_VALUE
from tests.support.object_masks import canvas_of, tight

CANVAS = (96, 128)
FREE = AugmentConfig(scale=(0.5, 1.5), shift=0.2, flip=0.5, flip_vertical=0.5, rotate_90=True, colour=0)
seeds = st.integers(0, 2**32 - 1)


def flat_sources(count: int = PARTS) -> list[tuple[np.ndarray, list[ObjectMask]]]:
    """Images of one colour each with an object of another: colour tells where every pixel came from."""
    sources = []
    for number in range(count):
        image = np.full((60, 80, 3), (10 + 20 * number, 0, 0), np.uint8)
        mask = np.zeros((60, 80), np.bool_)
        mask[10:50, 20:60] = True
        mask[20:30, 30:40] = False  # a hole
        image[mask] = 10 + 20 * number, 255, 0
        sources.append((image, [tight(mask, number)]))
    return sources


@settings(max_examples=25)
@given(seeds)
def test_masks_follow_the_images(seed):
    """Object pixels are green in each source; bilinear edges blur one pixel either side, so those are left out."""
    scene = draw_mosaic(np.random.default_rng(seed), flat_sources(), CANVAS, CANVAS, FREE)
    assert scene.image.shape == (*CANVAS, 3)
    for number in range(PARTS):
        mine = (scene.image[..., 0] == 10 + 20 * number) & (scene.image[..., 2] == 0)
        inside, outside = mine & (scene.image[..., 1] == 255), mine & (scene.image[..., 1] == 0)
        union = np.zeros(CANVAS, np.bool_)
        for one in scene.objects:
            if one.label == number:
                union |= canvas_of(one, CANVAS)
        assert union[inside].all() and not union[outside].any()


@settings(max_examples=25)
@given(seeds)
def test_no_object_leaves_its_quarter(seed):
    scene = draw_mosaic(np.random.default_rng(seed), flat_sources(), CANVAS, CANVAS, FREE)
    boxes = {one.label: one.rect for one in scene.objects}
    for left, right in ((0, 1), (2, 3)):  # top left and top right; bottom left and bottom right
        if left in boxes and right in boxes:
            assert boxes[left][2] <= boxes[right][0]
    for upper, lower in ((0, 2), (1, 3)):
        if upper in boxes and lower in boxes:
            assert boxes[upper][3] <= boxes[lower][1]


def test_what_no_image_covers_is_padding():
    small = dataclasses.replace(FREE, scale=(0.3, 0.3), shift=0.0)
    scene = draw_mosaic(np.random.default_rng(0), flat_sources(), CANVAS, CANVAS, small)
    assert (scene.image == PAD_VALUE).all(2).mean() > 0.4


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> TrainingSet:
    path = tmp_path_factory.mktemp("shapes")
    write_shapes(path, 6, seed=3, size_hw=(80, 100))
    config = Config(
        "shapes",
        model=ModelConfig(saliency="class_agnostic"),
        input=InputConfig(size=(96, 96)),
        train=TrainConfig(epochs=5, workers=0, augment=AugmentConfig(mosaic=1.0, close_mosaic=2, colour=0)),
    )
    return TrainingSet(load_dataset(find_split(path, "train")), config)


def test_a_training_sample_is_a_mosaic_until_the_last_epochs(samples):
    plain = dataclasses.replace(samples.config.train.augment, mosaic=0.0)
    config = dataclasses.replace(samples.config, train=dataclasses.replace(samples.config.train, augment=plain))
    without = TrainingSet(samples.dataset, config)
    for epoch, same in ((0, False), (2, False), (3, True), (4, True)):
        one, other = samples[Draw(1, epoch=epoch)], without[Draw(1, epoch=epoch)]
        assert np.array_equal(one[0], other[0]) == same


def test_the_same_sample_is_drawn_again_and_another_epoch_gives_another(samples):
    one, again, other = samples[Draw(1)], samples[Draw(1)], samples[Draw(1, epoch=1)]
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1].masks, again[1].masks)
    assert not np.array_equal(one[0], other[0])


def test_the_targets_of_a_mosaic_are_the_scenes(samples):
    """Boxes are tight around object pixels of the canvas, so they are whole numbers inside it."""
    _, targets = samples[Draw(2)]
    assert len(targets.labels) > 3
    np.testing.assert_array_equal(targets.boxes, np.round(targets.boxes))
    assert targets.boxes.min() >= 0 and targets.boxes.max() <= 96
    assert (targets.masks.max((1, 2)) == 1).all()


def test_real_shapes_fill_a_mosaic():
    rng = np.random.default_rng(2)
    sources = []
    for _ in range(PARTS):
        image, objects = draw_scene(rng, (80, 100), 4)
        sources.append((image, [tight(mask, label) for label, mask in objects]))
    scene = draw_mosaic(rng, sources, CANVAS, CANVAS, FREE)
    assert len(scene.objects) > 2 and all(one.crop.any() for one in scene.objects)

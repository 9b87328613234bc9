# SPDX-License-Identifier: Apache-2.0
"""Copy-paste: pasted objects are on top, and masks and boxes of what they cover are what remains visible."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from centermask.config import AugmentConfig, Config, InputConfig, ModelConfig, TrainConfig
from centermask.data.augment.copy_paste import copy_paste
from centermask.data.augment.scene import Scene
from centermask.data.dataset import ObjectMask, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import TrainingSet
from centermask.data.sampling import Draw
from centermask.data.synthetic import write_shapes
from centermask.data.targets import MIN_VISIBLE
from tests.support.object_masks import canvas_of, rectangle

HW = (48, 64)
STILL = AugmentConfig(scale=(1.0, 1.0), shift=0.0, flip=0.0, colour=0)
seeds = st.integers(0, 2**32 - 1)


def paste(below: list[ObjectMask], above: list[ObjectMask], seed: int) -> Scene:
    """Black below, white above, both of the canvas' size."""
    scene = Scene(np.zeros((*HW, 3), np.uint8), below)
    white = np.full((*HW, 3), 255, np.uint8)
    return copy_paste(np.random.default_rng(seed), scene, (white, above), HW, STILL)


def taken(scene: Scene, label: int = 9) -> list[ObjectMask]:
    return [one for one in scene.objects if one.label == label]


def first_seed(below: list[ObjectMask], above: list[ObjectMask]) -> Scene:
    """The scene of the first seed that takes all of `above`."""
    scenes = (paste(below, above, seed) for seed in range(100))
    return next(scene for scene in scenes if len(taken(scene)) == len(above))


def test_by_hand_the_lower_object_keeps_what_is_left_of_it():
    """The right half of a rectangle is covered: the mask and the box are its left half."""
    scene = first_seed([rectangle(10, 10, 30, 20)], [rectangle(20, 5, 40, 25, label=9)])
    lower, upper = scene.objects
    assert lower.rect == (10, 10, 20, 20) and lower.crop.all() and not lower.crowd
    assert upper.rect == (20, 5, 40, 25) and upper.crop.all()
    assert (scene.image[5:25, 20:40] == 255).all() and scene.image.sum() == 255 * 3 * 20 * 20


def test_a_hole_in_the_middle_leaves_the_box_as_it_was():
    scene = first_seed([rectangle(10, 10, 40, 40)], [rectangle(20, 20, 30, 30, label=9)])
    lower = scene.objects[0]
    assert lower.rect == (10, 10, 40, 40)
    assert np.count_nonzero(lower.crop) == 30 * 30 - 10 * 10 and not lower.crop[10:20, 10:20].any()


def test_an_object_that_is_covered_is_gone_and_a_rest_is_no_target():
    scene = first_seed(
        [rectangle(10, 10, 20, 20, label=1), rectangle(0, 30, 30, 40, label=2)],
        [rectangle(8, 8, 25, 25, label=9), rectangle(2, 30, 30, 40, label=9)],
    )
    assert [one.label for one in scene.objects] == [2, 9, 9]
    rest = scene.objects[0]
    assert rest.crowd and rest.rect == (0, 30, 2, 40) and 2 / 30 < MIN_VISIBLE


def test_crowds_are_not_pasted():
    assert all(not taken(paste([], [rectangle(5, 5, 15, 15, 9, crowd=True)], seed)) for seed in range(20))


def test_each_object_is_taken_half_of_the_time():
    counts = [len(taken(paste([], [rectangle(5, 5, 15, 15, 9), rectangle(30, 5, 40, 15, 9)], s))) for s in range(400)]
    assert 0.42 < np.mean(counts) / 2 < 0.58 and set(counts) == {0, 1, 2}  # 0.5 +- 4.5 standard errors of 0.018


@settings(max_examples=40)
@given(seeds)
def test_pixels_belong_to_the_topmost_object(seed):
    """Against canvases: what is pasted shows white, and nothing below claims a white pixel."""
    rng = np.random.default_rng(seed)

    def some(count: int, label: int) -> list[ObjectMask]:
        corners = rng.integers(0, (HW[1] - 12, HW[0] - 12), (count, 2))
        sides = rng.integers(2, 13, (count, 2))
        return [
            rectangle(int(x), int(y), int(x + w), int(y + h), label)
            for (x, y), (w, h) in zip(corners, sides, strict=True)
        ]

    below = some(5, 1)
    scene = paste(below, some(4, 9), seed)
    white = (scene.image == 255).all(2)
    union = np.zeros(HW, np.bool_)
    for one in taken(scene):
        union |= canvas_of(one, HW)
    np.testing.assert_array_equal(white, union)
    expected = [visible for one in below if (visible := canvas_of(one, HW) & ~white).any()]
    found = [one for one in scene.objects if one.label == 1]
    assert len(found) == len(expected)
    for one, visible in zip(found, expected, strict=True):
        np.testing.assert_array_equal(canvas_of(one, HW), visible)
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        assert one.rect == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes")
    write_shapes(path, 6, seed=8, size_hw=(80, 100))
    return load_dataset(find_split(path, "train"))


def samples(dataset, **augment: float) -> TrainingSet:
    train = TrainConfig(epochs=20, workers=0, augment=AugmentConfig(colour=0, **augment))
    agnostic = ModelConfig(saliency="class_agnostic")
    return TrainingSet(dataset, Config("shapes", model=agnostic, input=InputConfig(size=(96, 96)), train=train))


def test_a_sample_gains_objects_and_keeps_its_place(dataset):
    """Copy-paste draws from a stream of its own: the image below is the one that is drawn without it."""
    with_paste, without = samples(dataset, copy_paste=1.0), samples(dataset)
    gained = 0
    for index in range(len(dataset)):
        (image, targets), (plain, fewer) = with_paste[Draw(index)], without[Draw(index)]
        gained += len(targets.labels) - len(fewer.labels)
        assert (image == plain).all(2).mean() > 0.3
    assert gained > 0


def test_off_means_unchanged_targets(dataset):
    """The path through canvas masks is taken only when something is pasted."""
    off = samples(dataset, copy_paste=0.0, mosaic=0.0)
    for index in range(3):
        for one, other in zip(
            dataclasses.astuple(off[Draw(index)][1]), dataclasses.astuple(samples(dataset)[index][1]), strict=True
        ):
            np.testing.assert_array_equal(one, other)

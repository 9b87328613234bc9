# SPDX-License-Identifier: Apache-2.0
"""Which samples make up a step: each image at most once, the same sizes and pixels after resume, and what cannot be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from centermask.config import AugmentConfig, Config, InputConfig, ModelConfig, TrainConfig
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import TrainingSet, training_loader
from centermask.data.sampling import Draw
from centermask.data.synthetic import write_shapes
from centermask.data.training_steps import TrainingSteps
from centermask_runtime.errors import UsageError

CONFIG = Config(
    "shapes",
    model=ModelConfig(saliency="class_agnostic"),
    input=InputConfig(size=(64, 64)),
    train=TrainConfig(batch=3, workers=0, epochs=3, multi_scale=0.5, repeat_threshold=1.0),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes")
    write_shapes(path, 8, seed=4, size_hw=(64, 80))
    return load_dataset(find_split(path, "train"))


def all_batches(dataset, first_step: int = 0) -> list[torch.Tensor]:
    samples = TrainingSet(dataset, CONFIG)
    steps = TrainingSteps(samples)
    steps.first_step = first_step
    return [batch.images for batch in training_loader(samples, steps)]


def test_a_resumed_training_sees_the_same_sizes_and_pixels(dataset):
    whole = all_batches(dataset)
    assert len({batch.shape for batch in whole}) > 1 and {batch.shape[1] for batch in whole} <= {32, 64, 96}
    for first_step in (1, 5):
        for expected, found in zip(whole[first_step:], all_batches(dataset, first_step), strict=True):
            assert torch.equal(expected, found)


def test_a_larger_size_shows_the_same_view_finer(dataset):
    """Without jitter of colour a canvas of twice the size is the other one, sampled finer."""
    still = AugmentConfig(colour=0)
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, augment=still))
    samples = TrainingSet(dataset, config)
    small, large = samples[Draw(2)], samples[Draw(2, canvas_hw=(128, 128))]
    assert large[0].shape == (128, 128, 3)
    np.testing.assert_allclose(small[1].boxes * 2, large[1].boxes, atol=1e-3)
    assert abs(small[0].astype(float).mean() - large[0].mean()) < 3


def test_an_image_that_comes_again_is_augmented_anew(dataset):
    samples = TrainingSet(dataset, CONFIG)
    first, second = samples[Draw(0)], samples[Draw(0, repeat=1)]
    assert not np.array_equal(first[0], second[0])


def test_a_training_too_short_for_mosaic_says_so(dataset):
    augment = AugmentConfig(mosaic=0.5, close_mosaic=3)
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, augment=augment))
    with pytest.raises(UsageError, match=r"close_mosaic 3 leaves none of 3 epochs to mosaic and copy-paste; lower it"):
        TrainingSteps(TrainingSet(dataset, config))


def test_a_multi_scale_without_a_second_size_says_so(dataset):
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, multi_scale=0.4))
    with pytest.raises(UsageError, match=r"multi_scale 0.4 leaves 64 pixels the only multiple of 32 within reach"):
        TrainingSteps(TrainingSet(dataset, config))


def plain_steps(dataset, **train: object) -> TrainingSteps:
    """Without classes that come more often."""
    changed = dataclasses.replace(CONFIG.train, repeat_threshold=0, multi_scale=0, **train)
    return TrainingSteps(TrainingSet(dataset, dataclasses.replace(CONFIG, train=changed)))


def test_an_epoch_takes_each_image_at_most_once(dataset):
    order = [draw.image for batch in plain_steps(dataset, epochs=1, batch=4) for draw in batch]
    assert sorted(order) == list(range(8)) != order


def test_fewer_images_than_a_batch_still_make_one(dataset):
    assert [len(batch) for batch in plain_steps(dataset, epochs=1, batch=32)] == [8]

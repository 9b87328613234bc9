# SPDX-License-Identifier: Apache-2.0
"""Pictures of a batch: the very tensors that are trained on, masks where the objects are, a mark on each centre."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from centermask.config import Config, InputConfig, ModelConfig, TrainConfig
from centermask.data.loader import TrainingSet, collate
from centermask.evaluation.pictures import square_sheet
from centermask.training.listeners.batches import batch_instances, draw_batch, draw_targets


@pytest.mark.slow
def test_a_train_picture_shows_the_batch_that_was_trained_on(trained):
    """Outside of masks and labels its cells are the network's input, enlarged and compressed."""
    images = np.load(trained / "first.npy")
    shown = cv2.imread(str(trained / "train_batch0.jpg")).astype(int)
    plain = square_sheet(list(images)).astype(int)
    assert shown.shape == plain.shape
    assert (np.abs(shown - plain).max(2) < 40).mean() > 0.3


def test_masks_of_a_batch_are_drawn_where_its_images_have_the_objects(batch, dataset):
    """A grid of 28 x 28 against the exact mask of a plain, letterboxed sample."""
    model = ModelConfig(saliency="class_agnostic")
    config = Config("shapes", model=model, input=InputConfig(size=(96, 96)), train=TrainConfig())
    index = max(range(len(dataset)), key=lambda index: len(dataset.labels(index)))
    plain = collate([TrainingSet(dataset, config, augmented=False)[index]])
    drawn = batch_instances(plain, 0, dataset.class_names)
    exact = dataset.objects(index)
    assert len(drawn) == len(exact) > 1
    for number, one in enumerate(exact):
        full = np.zeros((80, 100), np.uint8)
        x0, y0, x1, y1 = one.rect
        full[y0:y1, x0:x1] = one.crop
        # the letterbox: 80 x 100 pixels become 77 x 96 with 9 rows above; pixel centres at +0.5
        letterbox = np.array([[0.96, 0, -0.02], [0, 77 / 80, 9 + 77 / 160 - 0.5]])
        warped = cv2.warpAffine(full, letterbox, (96, 96), flags=cv2.INTER_NEAREST) > 0
        mine = drawn.masks.canvas(number)
        assert (mine & warped).sum() / (mine | warped).sum() > 0.85
    assert len(batch_instances(batch, 0, dataset.class_names)) == int((batch.image_index == 0).sum())


def test_targets_mark_each_centre(batch):
    picture = draw_targets(dataclasses.replace(batch, images=batch.images * 0))
    plain = draw_targets(
        dataclasses.replace(batch, images=batch.images * 0, image_index=torch.full_like(batch.image_index, -1))
    )
    assert (picture != plain).any()
    assert (picture == 255).all(2).sum() > 4 * len(batch.labels)


def test_batches_of_any_number_of_images_and_objects_are_drawn(batch, dataset):
    empty = dataclasses.replace(batch, image_index=torch.full_like(batch.image_index, -1))
    assert np.array_equal(draw_batch(empty, dataset.class_names), square_sheet(list(batch.images.numpy())))
    many = dataclasses.replace(batch, images=batch.images.repeat(10, 1, 1, 1))
    assert draw_batch(many, dataset.class_names).shape[0] < 4 * 500

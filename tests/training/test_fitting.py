# SPDX-License-Identifier: Apache-2.0
"""Recipes on data sets of another size: what is changed, what is said of it, and what is left alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from centermask.config import AugmentConfig, Config, TrainConfig, load_config
from centermask.model.weights import spec_of
from centermask.released import released_models
from centermask.training.fitting import doubt_of_start, doubts, fit_to_data

COCO, NUCLEI = 118_287, 531  # training images


def config_of(**train: object) -> Config:
    return Config("x", train=TrainConfig(**train))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "images"),
    [("dla_34", COCO), ("dla_34_dcn", COCO), ("dla_46c", COCO), ("hourglass_104", COCO), ("nuclei_dla_46c", NUCLEI)],
)
def test_a_recipe_is_left_alone_on_the_data_that_it_was_written_for(name, images):
    config = load_config(name)
    assert fit_to_data(config, images) == (config, [])


def test_the_recipe_of_coco_on_sixty_images():
    """It was one step of 32 images per epoch, 73 of them in all, and 500 of warm-up."""
    config, said = fit_to_data(load_config("dla_46c"), 60)
    assert (config.train.batch, config.train.epochs, config.train.warmup_steps) == (8, 73, 51)
    assert said == [
        "Batch 8 instead of 32, as there are 60 images (train.batch).",
        "Warm-up of 51 steps instead of 500, a tenth of 511 steps (train.warmup_steps).",
    ]


def test_a_batch_larger_than_the_set_becomes_a_smaller_one():
    for images, batch in ((1, 1), (3, 3), (5, 4), (20, 4), (31, 4), (32, 8), (127, 16), (128, 32)):
        assert fit_to_data(config_of(batch=32), images)[0].train.batch == batch, images
    assert fit_to_data(config_of(batch=2), 5)[0].train.batch == 2  # never larger than what is asked for


def test_a_batch_stays_shareable():
    assert fit_to_data(config_of(batch=30), 20, parts=6)[0].train.batch == 6
    assert fit_to_data(config_of(batch=32), 20, parts=8)[0].train.batch == 8


def test_a_length_in_steps_bounds_the_warm_up_too():
    assert fit_to_data(config_of(steps=40, batch=4, warmup_steps=7), 100)[0].train.warmup_steps == 4
    assert fit_to_data(config_of(steps=5, batch=4, warmup_steps=7), 100)[0].train.warmup_steps == 1


def test_auto_is_longer_in_epochs_and_shorter_in_all_for_fewer_images():
    lengths = {n: fit_to_data(config_of(epochs="auto", batch=4), n)[0].train.epochs for n in (10, 20, 50, 200, 1000)}
    assert lengths == {10: 224, 20: 143, 50: 79, 200: 32, 1000: 11}
    seen = [images * epochs for images, epochs in lengths.items()]
    assert seen == sorted(seen) and seen[-1] < 10 * seen[0]


def test_auto_validates_eight_times_and_has_the_patience_for_three():
    config, said = fit_to_data(config_of(epochs="auto", batch=4, patience=5, warmup_steps=0), 20)
    assert (config.train.val_every, config.train.patience) == (18, 54)
    assert said == ["143 epochs, as suit 20 images (train.epochs auto), validated every 18 epochs."]
    assert fit_to_data(config_of(epochs="auto"), 20)[0].train.patience == 0
    assert fit_to_data(config_of(epochs="auto", patience=100), 20)[0].train.patience == 100


def test_auto_gives_way_to_a_length_in_steps():
    train = fit_to_data(config_of(epochs="auto", steps=7, val_every=1), 20)[0].train
    assert (train.steps, train.val_every) == (7, 1) and isinstance(train.epochs, int)


def test_mosaic_is_not_closed_before_it_begins():
    mosaic = AugmentConfig(mosaic=0.5)
    config, said = fit_to_data(config_of(epochs=10, augment=mosaic, batch=4, warmup_steps=0), 20)
    assert config.train.augment.close_mosaic == 2
    assert said == [
        "The last 2 epochs instead of 10 of 10 go without mosaic and copy-paste (train.augment.close_mosaic)."
    ]
    for kept in (config_of(epochs=30, augment=mosaic), config_of(epochs=3)):
        assert fit_to_data(kept, COCO)[0].train.augment == kept.train.augment


@given(
    images=st.integers(1, 3000), batch=st.integers(1, 64), parts=st.sampled_from((1, 2, 3, 8)),
    epochs=st.integers(1, 300) | st.just("auto"), steps=st.none() | st.integers(1, 5000),
    warmup=st.integers(0, 1000), mosaic=st.sampled_from((0.0, 0.5)), patience=st.integers(0, 20),
)  # fmt: skip
def test_what_is_fitted_fits(images, batch, parts, epochs, steps, warmup, mosaic, patience):
    train = TrainConfig(
        epochs=epochs, steps=steps, batch=batch * parts, warmup_steps=warmup, patience=patience,
        augment=AugmentConfig(mosaic=mosaic),
    )  # fmt: skip
    config, _ = fit_to_data(Config("x", train=train), images, parts)
    assert config.train.batch % parts == 0 and config.train.batch <= train.batch
    assert config.train.batch <= max(images, parts)
    assert fit_to_data(config, images, parts) == (config, [])
    others = ("batch", "epochs", "val_every", "patience", "warmup_steps", "augment")
    changed = {name for name, value in vars(config.train).items() if value != getattr(train, name)}
    assert changed <= set(others) and dataclasses.replace(config, train=train) == Config("x", train=train)


def test_a_short_training_from_random_weights_is_doubted():
    assert doubts(TrainConfig(), 1000, has_starting_weights=False) == []
    assert doubts(TrainConfig(), 50, has_starting_weights=True) == []
    (doubt,) = doubts(TrainConfig(), 999, has_starting_weights=False)
    assert doubt.startswith("999 steps from random weights may find nothing: start from other weights, or train for")


def test_more_workers_than_cores_are_told(monkeypatch):
    monkeypatch.setattr("centermask.training.fitting.fitting_workers", lambda sharing: 2)
    for workers in (None, 0, 1, 2):
        assert doubts(TrainConfig(workers=workers), 5000, has_starting_weights=True) == []
    (doubt,) = doubts(TrainConfig(workers=8), 5000, has_starting_weights=True)
    assert doubt.startswith("8 loader processes were asked for where 2 would fit this machine's cores; null takes")


def test_weights_that_were_trained_on_another_input_are_told(tmp_path):
    nuclei = released_models()["nuclei"]
    names = ("nucleus",), (1,)
    assert doubt_of_start(nuclei, spec_of(load_config("nuclei_dla_46c"), *names)) is None
    doubt = doubt_of_start(nuclei, spec_of(load_config("dla_46c"), *names))
    assert doubt is not None and doubt.startswith(
        "nuclei_dla_46c.safetensors was trained with input.mean_bgr [0.3, 0.3, 0.3] and input.std_bgr [0.25, 0.25,"
    )
    other = tmp_path / "other.pth"
    other.write_bytes(b"of somebody else")
    save_file({"a": np.zeros(1)}, tmp_path / "bare.safetensors")
    for path in (other, tmp_path / "bare.safetensors"):
        assert doubt_of_start(path, spec_of(load_config("dla_46c"), *names)) is None

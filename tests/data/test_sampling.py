# SPDX-License-Identifier: Apache-2.0
"""Class-balanced epochs and multi-scale batches: factors by hand, right frequencies, sizes that can be trained on."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask.config import parse_config
from centermask.data.sampling import canvas_sizes, epoch_draws, epoch_length, repeat_factors
from centermask_runtime.errors import UsageError

SIZE = [(64, 64)]


def test_factors_are_lvis_by_hand():
    """Of 4 images class 0 is in 4, class 1 in 1; t = 0.5: r(0) = max(1, sqrt(.5 / 1)) = 1, r(1) = sqrt(.5 / .25)."""
    factors = repeat_factors([(0,), (0, 0), (0, 1, 1), (0,)], 0.5)
    np.testing.assert_allclose(factors, [1, 1, 2**0.5, 1])


def test_an_image_goes_by_its_rarest_class_and_an_empty_one_comes_once():
    """10 images; class 0 in 5, class 1 in 2, class 2 in 1; t = 0.8."""
    labels = [(0,), (0,), (0, 1), (0, 1, 2), (0,), (), (), (), (), ()]
    r0, r1, r2 = (0.8 / 0.5) ** 0.5, (0.8 / 0.2) ** 0.5, (0.8 / 0.1) ** 0.5
    np.testing.assert_allclose(repeat_factors(labels, 0.8), [r0, r0, r1, r2, r0, 1, 1, 1, 1, 1])


def test_no_threshold_shows_each_image_once():
    factors = repeat_factors([(0,), (1,), ()], 0.0)
    draws = epoch_draws(factors, 0, 0, 2, SIZE)
    assert sorted(draw.image for draw in draws) == [0, 1, 2] and {draw.repeat for draw in draws} == {0}


@given(st.lists(st.floats(1, 6), min_size=1, max_size=30), st.integers(0, 2**31), st.integers(0, 100))
def test_each_epoch_is_of_one_length_and_counts_are_next_to_the_factors(factors, seed, epoch):
    """The length is rounded to whole samples, and the factors are stretched to it."""
    factors = np.array(factors)
    draws = epoch_draws(factors, seed, epoch, 4, SIZE)
    assert len(draws) == epoch_length(factors) == round(factors.sum())
    wanted = factors * len(draws) / factors.sum()
    counts = np.bincount([draw.image for draw in draws], minlength=len(factors))
    assert (counts >= np.floor(wanted - 1e-6)).all() and (counts <= np.ceil(wanted + 1e-6)).all()
    for image, count in enumerate(counts):
        assert sorted(draw.repeat for draw in draws if draw.image == image) == list(range(count))


def test_over_many_epochs_an_image_comes_as_often_as_its_factor():
    factors = np.array([1.0, 1.3, 2.7, 1.0])
    total = Counter(draw.image for epoch in range(600) for draw in epoch_draws(factors, 5, epoch, 4, SIZE))
    means = np.array([total[image] / 600 for image in range(4)])
    np.testing.assert_allclose(means, factors, atol=0.06)  # standard error of a fraction over 600 epochs: 0.02


def test_the_order_depends_on_seed_and_epoch_alone():
    factors = np.array([1.0, 2.5, 1.0])
    assert epoch_draws(factors, 1, 2, 4, SIZE) == epoch_draws(factors, 1, 2, 4, SIZE)
    orders = {tuple(epoch_draws(factors, seed, epoch, 4, SIZE)) for seed in range(4) for epoch in range(4)}
    assert len(orders) > 8


def test_sizes_are_the_multiples_of_32_around_the_usual_one():
    assert canvas_sizes((512, 512), 0.25, 32) == [(side, side) for side in range(384, 641, 32)]
    assert canvas_sizes((512, 512), 0.0, 32) == [(512, 512)]
    assert canvas_sizes((96, 192), 0.4, 32) == [(64, 128), (96, 160), (96, 192), (128, 224), (128, 256)]
    assert canvas_sizes((32, 32), 0.5, 32) == [(32, 32)]
    assert canvas_sizes((512, 512), 0.3, 128) == [(384, 384), (512, 512), (640, 640)]  # an hourglass


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 0.99))
def test_every_size_can_be_trained_on(height, width, spread):
    sizes = canvas_sizes((32 * height, 32 * width), spread, 32)
    assert (32 * height, 32 * width) in sizes and len(set(sizes)) == len(sizes)
    assert all(side >= 32 and side % 32 == 0 for size in sizes for side in size)
    longer = 32 * max(height, width)
    assert all((1 - spread) * longer - 1 <= max(size) <= (1 + spread) * longer + 1 for size in sizes)


def test_a_batch_shares_its_size_and_sizes_vary():
    sizes = canvas_sizes((128, 128), 0.5, 32)
    draws = epoch_draws(np.ones(40), 0, 0, 4, sizes)
    batches = [draws[start : start + 4] for start in range(0, 40, 4)]
    assert all(len({draw.canvas_hw for draw in batch}) == 1 for batch in batches)
    assert len({draw.canvas_hw for draw in draws}) > 2


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ("{multi_scale: 1}", "train.multi_scale must be at least 0 and below 1, not 1.0."),
        ("{repeat_threshold: 2}", "train.repeat_threshold must be between 0 and 1, not 2.0."),
        ("{augment: {flip: 50}}", "train.augment.flip must be between 0 and 1, not 50.0."),
        ("{augment: {colour: -0.5}}", "train.augment.colour must be at least 0, not -0.5."),
        ("{augment: {mosaic: -0.1}}", "train.augment.mosaic must be between 0 and 1, not -0.1."),
        ("{augment: {copy_paste: .nan}}", "train.augment.copy_paste must be between 0 and 1, not nan."),
        ("{augment: {close_mosaic: -1}}", "train.augment.close_mosaic must be at least 0, not -1."),
    ],
)
def test_wrong_values_are_named(keys, sentence):
    with pytest.raises(UsageError) as caught:
        parse_config(f"name: x\ntrain: {keys}", "file")
    assert str(caught.value) == sentence

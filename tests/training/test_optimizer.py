# SPDX-License-Identifier: Apache-2.0
"""The learning rate, worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from centermask.config import TrainConfig
from centermask.training.optimizer import full_rate, learning_rate


def test_step_schedule_by_hand():
    config = TrainConfig(lr=1.0, warmup_steps=4, schedule="step", drops=(0.5, 0.75))
    rates = [learning_rate(step, 16, config) for step in range(16)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01])


def test_cosine_schedule_by_hand():
    config = TrainConfig(lr=2.0, warmup_steps=0, schedule="cosine")
    assert learning_rate(0, 100, config) == pytest.approx(2.0)
    assert learning_rate(50, 100, config) == pytest.approx(2 * (0.01 + 0.99 / 2))
    assert learning_rate(100, 100, config) == pytest.approx(2 * 0.01)


def test_the_papers_schedule_drops_after_nine_and_twelve_thirteenths():
    config = TrainConfig()
    rates = [learning_rate(step, 260_000, config) for step in (500, 179_999, 180_000, 239_999, 240_000, 259_999)]
    assert rates == pytest.approx([2.5e-4, 2.5e-4, 2.5e-5, 2.5e-5, 2.5e-6, 2.5e-6])


def test_the_learning_rate_follows_the_batch_where_the_config_says_what_it_is_for():
    config = TrainConfig(lr=1e-3, batch=8, warmup_steps=0)
    assert full_rate(config) == 1e-3
    for batch in range(1, 64):  # 1e-4 * 13 / 13 is another number
        assert {full_rate(TrainConfig(lr=1e-4, batch=batch, lr_batch=meant)) for meant in (None, batch)} == {1e-4}
    assert full_rate(dataclasses.replace(config, lr_batch=32)) == pytest.approx(2.5e-4)
    doubled = dataclasses.replace(config, lr_batch=4, warmup_steps=2)
    assert [learning_rate(step, 100, doubled) for step in (0, 1, 99)] == pytest.approx([1e-3, 2e-3, 2e-5])

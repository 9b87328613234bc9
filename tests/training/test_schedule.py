# SPDX-License-Identifier: Apache-2.0
"""Learning rate and weight average, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from centermask.config import Config, ModelConfig, TrainConfig
from centermask.model.weights import build_model
from centermask.training.ema import WeightAverage
from centermask.training.schedule import learning_rate

CONFIG = Config("tiny", ModelConfig("dla_46c", head_channels=16, shape_size=8))


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


def test_weight_average_by_hand():
    model = build_model(CONFIG, 3)
    average = WeightAverage(model, decay=0.25)
    value = average.state_dict()["heatmap.2.bias"].clone()
    name = "base.level0.1.num_batches_tracked"
    for step in range(1, 5):
        with torch.no_grad():
            model.heatmap[2].bias.fill_(float(step))
            model.state_dict()[name].fill_(step)
        average.update(model)
        decay = min(0.25, (1 + step) / (10 + step))  # 2/11, then 0.25
        value = decay * value + (1 - decay) * step
        torch.testing.assert_close(average.state_dict()["heatmap.2.bias"], value)
        assert average.state_dict()[name] == step  # counters are copied
    assert not any(p.requires_grad for p in average.model.parameters()) and not average.model.training

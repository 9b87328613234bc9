# SPDX-License-Identifier: Apache-2.0
"""The average of the weights, worked out by hand."""

from __future__ import annotations

import torch

from centermask.config import Config, ModelConfig
from centermask.model.network import build_model
from centermask.training.ema import WeightAverage

CONFIG = Config("tiny", ModelConfig("dla_46c", head_channels=16, shape_size=8))


def test_weight_average_by_hand():
    model = build_model(CONFIG, 3)
    average = WeightAverage(model, decay=0.25)
    value = average.state_dict()["heatmap.2.bias"].clone()
    name = "base.level0.1.num_batches_tracked"
    for step in range(1, 5):
        with torch.no_grad():
            model.heatmap[2].bias.fill_(float(step))
            model.state_dict()[name].fill_(step)
        average.update(model, step - 1)
        decay = min(0.25, (1 + step) / (10 + step))  # 2/11, then 0.25
        value = decay * value + (1 - decay) * step
        torch.testing.assert_close(average.state_dict()["heatmap.2.bias"], value)
        assert average.state_dict()[name] == step  # counters are copied
    assert not any(p.requires_grad for p in average.model.parameters()) and not average.model.training

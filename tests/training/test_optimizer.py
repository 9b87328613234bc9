# SPDX-License-Identifier: Apache-2.0
"""The learning rate, worked out by hand, and whose parameters learn at which."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from centermask.config import TrainConfig
from centermask.model.network import build_model
from centermask.training.optimizer import full_rate, learning_rate, make_optimizer, set_rate, slow_down
from tests.support.tiny_training import CONFIG


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


def test_the_backbone_learns_at_its_own_rate():
    """A step of Adam is lr * sign of the gradient at first, whatever the gradient's size."""
    model = build_model(CONFIG, 3)
    optimizer = make_optimizer(model, TrainConfig(lr=1.0, base_lr=0.25, optimizer="adam"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_rate(optimizer, 0.5)
    optimizer.step()
    for name, parameter in model.named_parameters():
        step = 0.125 if name.startswith("base.") else 0.5
        torch.testing.assert_close(parameter, before[name] - step, msg=name)


def test_each_parameter_that_is_not_frozen_is_in_one_group():
    model = build_model(CONFIG, 3)
    frozen = set(model.base.level2.parameters())
    for parameter in frozen:
        parameter.requires_grad_(False)
    for base_lr, groups in ((1.0, 1), (0.5, 2)):
        optimizer = make_optimizer(model, TrainConfig(base_lr=base_lr))
        held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        assert len(optimizer.param_groups) == groups
        assert len(held) == len(set(held)) and set(held) == set(model.parameters()) - frozen
    model.base.requires_grad_(False)
    assert len(make_optimizer(model, TrainConfig(base_lr=0.5)).param_groups) == 1


def test_a_group_of_an_older_checkpoint_has_the_factor_one():
    optimizer = make_optimizer(build_model(CONFIG, 3), TrainConfig())
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["lr_scale"]
    optimizer.load_state_dict(saved)
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]


def test_parts_that_start_from_other_weights_whole_learn_at_their_own_rate():
    """Up path and size head are brought, of the shape head the first convolution alone, of the heat map nothing."""
    model = build_model(CONFIG, 3)
    optimizer = make_optimizer(model, TrainConfig(lr=1.0, base_lr=0.25, started_lr=0.5, optimizer="adam"))
    parameters = dict(model.named_parameters())
    brought = [name for name in parameters if name.startswith(("base.", "up.", "size.", "shape.0"))]
    assert sorted(slow_down(optimizer, brought, model, 0.5)) == ["size", "up"]
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    set_rate(optimizer, 0.5)
    optimizer.step()
    for name, parameter in parameters.items():
        step = {"base": 0.125, "up": 0.25, "size": 0.25}.get(name.partition(".")[0], 0.5)
        torch.testing.assert_close(parameter, before[name] - step, msg=name)


def test_without_a_rate_of_their_own_nothing_is_slowed_down():
    model = build_model(CONFIG, 3)
    for base_lr in (1.0, 0.5):
        optimizer = make_optimizer(model, TrainConfig(base_lr=base_lr))
        assert slow_down(optimizer, [name for name, _ in model.named_parameters()], model, 0.1) == []

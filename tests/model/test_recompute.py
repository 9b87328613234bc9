# SPDX-License-Identifier: Apache-2.0
"""train.recompute: the same training in less memory, its activations computed again on the way back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from centermask.config import Config, InputConfig, LossConfig, ModelConfig, TrainConfig, parse_config
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.synthetic import write_shapes
from centermask.model.dla import DLA, dla_34, dla_46c
from centermask.model.efficientnet_lite import efficientnet_lite0
from centermask.model.hourglass import Hourglass
from centermask.model.mobilenet_v2_fpn import mobilenet_v2_fpn
from centermask.model.network import Backbone
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer
from centermask_runtime.errors import UsageError


def thin_hourglass() -> Hourglass:
    return Hourglass(2, 16, (16, 16, 32), (1, 1, 1), 16)


BACKBONES: dict[str, Callable[[], Backbone]] = {
    "dla_34": dla_34,
    "dla_46c": dla_46c,
    "efficientnet_lite0": efficientnet_lite0,
    "mobilenet_v2_fpn": mobilenet_v2_fpn,
    "hourglass": thin_hourglass,
}


def synchronised() -> DLA:
    """As train.sync_bn makes it; one process alone synchronises with nobody."""
    backbone: DLA = nn.SyncBatchNorm.convert_sync_batchnorm(dla_46c())
    return backbone


def step(make: Callable[[], Backbone], *, recompute: bool) -> tuple[nn.Module, int]:
    """A backbone after one forward and backward pass; the bytes that it kept in between."""
    torch.manual_seed(0)
    backbone = make().train()
    backbone.recompute = recompute
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        maps = backbone(torch.randn(2, 3, 128, 128))
    torch.stack([one.square().mean() for one in maps]).sum().backward()
    return backbone, sum(kept.values())


@pytest.mark.parametrize("make", [*BACKBONES.values(), synchronised])
def test_gradients_and_running_statistics_are_equal_bit_for_bit(make):
    plain, _ = step(make, recompute=False)
    again, _ = step(make, recompute=True)
    gradients = [(one.grad, other.grad) for one, other in zip(plain.parameters(), again.parameters(), strict=True)]
    assert all(one is not None and torch.equal(one, other) for one, other in gradients)
    state = again.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in plain.state_dict().items())
    counts = {int(tensor) for key, tensor in state.items() if key.endswith("num_batches_tracked")}
    assert counts == {1}  # not twice


@pytest.mark.parametrize(
    ("name", "most"),
    [("dla_34", 0.55), ("dla_46c", 0.5), ("efficientnet_lite0", 0.6), ("mobilenet_v2_fpn", 0.7), ("hourglass", 0.4)],
)
def test_less_is_kept_between_the_passes(name, most):
    _, plain = step(BACKBONES[name], recompute=False)
    _, again = step(BACKBONES[name], recompute=True)
    assert again < most * plain


@pytest.mark.slow
def test_a_training_ends_with_the_same_weights(tmp_path):
    write_shapes(tmp_path, 5, seed=1, val_count=1, size_hw=(64, 64), max_objects=3)
    datasets = load_dataset(find_split(tmp_path, "train")), load_dataset(find_split(tmp_path, "val"))
    states = []
    for recompute in (False, True):
        train = TrainConfig(
            epochs=2,
            batch=2,
            accumulate=2,
            warmup_steps=0,
            workers=0,
            recompute=recompute,
            loss=LossConfig(mask_grid=8),
        )
        config = Config("tiny", ModelConfig("dla_46c", 16, 8, max_detections=10), InputConfig((64, 64)), train)
        trainer = Trainer(config, *datasets, RunFolder(tmp_path / str(recompute)), device="cpu")
        trainer.fit()
        assert trainer.learner.model.base.recompute == recompute
        states.append(trainer.learner.average.model.state_dict())
    plain, again = states
    assert all(torch.equal(tensor, again[key]) for key, tensor in plain.items())


def test_a_compiled_training_that_recomputes_is_refused():
    with pytest.raises(UsageError, match=r"train\.recompute and train\.compile exclude each other"):
        parse_config("name: x\ntrain: {compile: true, recompute: true}", "test")

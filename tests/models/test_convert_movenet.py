# SPDX-License-Identifier: Apache-2.0
"""Batch norms that were folded away come back: the network computes what it did, and can be trained again."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from centermask.model.mobilenet_v2_fpn import MobileNetV2FPN
from models import convert_movenet
from models.convert_movenet import give_back_norms, photographs, read_tfjs, trunk_of
from tests.support.starting_weights import Folder


@pytest.fixture(scope="module")
def batches(shared_data) -> list[Tensor]:
    """Eight photographs of 384 x 384, in batches of two."""
    return list(torch.cat(photographs(shared_data / "photos", 8)).split(2))


@pytest.fixture(scope="module")
def folded(starting_weights: Folder) -> MobileNetV2FPN:
    return trunk_of(read_tfjs(starting_weights.path / "movenet_multipose" / "movenet-multipose.json"))


def norms_of(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.slow
@torch.no_grad()
def test_norms_that_are_given_back_change_nothing(folded, batches):
    """Outputs differ by less than 1e-4 of the largest value of their map: fp32 in another order."""
    network = copy.deepcopy(folded)
    assert all((norm.running_mean == 0).all() and (norm.weight == 1).all() for norm in norms_of(network))
    give_back_norms(network, batches)
    assert all(norm.running_mean.any() and not (norm.weight == 1).all() for norm in norms_of(network))
    unseen = torch.cat(batches)[:1].flip(3)
    for before, after in zip(folded(unseen), network(unseen), strict=True):
        assert (before - after).abs().max() < 1e-4 * before.abs().max()


@pytest.mark.slow
@torch.no_grad()
def test_in_training_mode_the_network_sees_about_what_it_saw(folded, batches):
    """The statistics of the batch are near those that were given back; a folded network's are far from its own."""

    def change(network: nn.Module) -> float:
        in_evaluation = network.eval()(torch.cat(batches))[5]
        in_training = network.train()(torch.cat(batches))[5]
        return float((in_evaluation - in_training).std() / in_evaluation.std())

    network = copy.deepcopy(folded)
    give_back_norms(network, batches)
    given_back, as_folded = change(network), change(copy.deepcopy(folded))
    assert given_back < 1e-3 < 0.5 < as_folded


def test_the_script_makes_the_kernels_of_the_shipped_file_again(starting_weights: Folder, shared_data):
    """Bit for bit. Its batch norms are those of 48 photographs, and the trunk is compared with the published one."""
    shipped = load_file(Folder.shipped("coco_person_mobilenet_v2_fpn"))
    model = starting_weights.path / "movenet_multipose" / "movenet-multipose.json"
    made = convert_movenet.starting_weights(model, shared_data / "photos", count=1)
    assert {name: tensor.dtype for name, tensor in made.items()} == {
        name: tensor.dtype for name, tensor in shipped.items()
    }
    kernels = [name for name in made if made[name].ndim == 4]
    assert kernels and all(torch.equal(made[name], shipped[name]) for name in kernels)

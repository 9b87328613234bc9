# SPDX-License-Identifier: Apache-2.0
"""PyTorch as a back end: it takes what the others take, from any thread, and refuses the rest in one sentence."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from centermask.model.torch_network import TorchNetwork
from centermask_runtime.errors import ModelError
from tests.support.exported_models import tiny_model, tiny_spec


@pytest.fixture(scope="module")
def network() -> TorchNetwork:
    return TorchNetwork(tiny_model(), tiny_spec())


def test_threads_get_the_answers_to_their_own_images(network):
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 96, 128, 3), dtype=np.uint8)
    expected = [network.run(one).scores for one in images]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda place: network.run(images[place % 6]).scores, range(12)))
    for place, scores in enumerate(found):
        np.testing.assert_array_equal(scores, expected[place % 6])


def test_images_may_lie_in_memory_in_any_way(network):
    images = np.random.default_rng(1).integers(0, 256, (1, 96, 256, 3), dtype=np.uint8)[:, :, ::2]
    np.testing.assert_array_equal(network.run(images).scores, network.run(images.copy()).scores)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 96, 128, 3), np.float32),
        np.zeros((96, 128, 3), np.uint8),
        np.zeros((1, 96, 128, 4), np.uint8),
        np.zeros((1, 96, 100, 3), np.uint8),
        np.zeros((0, 96, 128, 3), np.uint8),
    ],
    ids=["float", "one image", "alpha", "not a multiple", "none"],
)
def test_what_is_no_input_is_a_model_error(network, images):
    with pytest.raises(ModelError, match=r"takes images uint8 \[N, H, W, 3\] with sides in multiples of 32, not"):
        network.run(images)

# SPDX-License-Identifier: Apache-2.0
"""Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): what a part of a network computed on the way forward
is not kept for the way back, but computed again there. Less memory for more arithmetic; the gradients are the same.

PyTorch's checkpoint runs the part twice, and a batch norm would count each batch twice in its running statistics. Here
they stand still the second time, so that the weights come out equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

Maps = TypeVar("Maps", Tensor, list[Tensor])


def recomputed(compute: Callable[[Tensor], Maps], x: Tensor, parts: Sequence[nn.Module]) -> Maps:
    """Returns compute(x), which runs `parts`; only x and the result stay in memory until the backward pass."""
    norms = [one for part in parts for one in part.modules() if isinstance(one, _BatchNorm)]
    maps: Maps = checkpoint(
        compute, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _standing_still(norms)),
        preserve_rng_state=False,  # nothing here is drawn at random
    )  # fmt: skip
    return maps


@contextmanager
def _standing_still(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Batch norms in training go on to normalise by their batch, and leave the running statistics alone.

    Momentum 0 does so without changing which tensors are saved, which checkpoint compares; a copy counts the batches.
    """
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches

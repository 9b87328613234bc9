# SPDX-License-Identifier: Apache-2.0
"""What a model costs, part by part: parameters, and floating-point operations for one image.

Counted by PyTorch's own counter on tensors without content, so nothing is computed or allocated. Counted are
convolutions and matrix products, a multiplication and an addition as two; not counted are batch norms (export folds
them), element-wise operations and the reading of pixels by deformable convolutions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from centermask.config import STRIDE, Config
from centermask.model.heads import Head
from centermask.model.network import build_model

HEADS = ("heatmap", "offset", "size", "shape", "saliency")
SPARSE = ("offset", "size", "shape")  # evaluated at K cells


@dataclass(frozen=True)
class PartCost:
    name: str
    parameters: int
    dense_flop: int  # each head on every cell, as the paper has it
    sparse_flop: int  # offset, size and shape at the K peaks only, as inference does


@dataclass(frozen=True)
class ModelCost:
    name: str
    input_hw: tuple[int, int]
    num_classes: int
    parts: tuple[PartCost, ...]  # in the order of the computation

    @property
    def total(self) -> PartCost:
        sums = (
            sum(getattr(part, field) for part in self.parts) for field in ("parameters", "dense_flop", "sparse_flop")
        )
        return PartCost("total", *sums)


def model_cost(config: Config, num_classes: int) -> ModelCost:
    """Counts one image of `config.input.size`. `early heads` are those that only training uses: no operations."""
    height, width = config.input.size
    with FakeTensorMode():  # the meta device knows no autocast
        model = build_model(config, num_classes)
        maps: list[Tensor] = []
        parts = [_part("backbone", model.base, lambda: maps.extend(model.base(torch.empty(1, 3, height, width))))]
        up = model.up
        if up is not None:
            parts.append(_part("up path", up, lambda: maps.append(up(maps))))
        features = maps[-1]
        rows = torch.empty(config.model.max_detections, 9 * features.shape[1])
        assert features.shape[2:] == (height // STRIDE, width // STRIDE)
        for name in HEADS:
            head = getattr(model, name)
            assert isinstance(head, Head)
            dense = _flop(lambda head=head: head(features))  # type: ignore[misc]
            sparse = _flop(lambda head=head: head.at(rows)) if name in SPARSE else dense  # type: ignore[misc]
            parts.append(PartCost(f"{name} head", _parameters(head), dense, sparse))
    if len(model.early):
        parts.append(PartCost("early heads (training only)", _parameters(model.early), 0, 0))
    return ModelCost(config.name, config.input.size, num_classes, tuple(parts))


def _part(name: str, module: nn.Module, run: Callable[[], object]) -> PartCost:
    flop = _flop(run)
    return PartCost(name, _parameters(module), flop, flop)


def _flop(run: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        run()
    return counter.get_total_flops()


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

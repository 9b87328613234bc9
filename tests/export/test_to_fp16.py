# SPDX-License-Identifier: Apache-2.0
"""Half precision: batch norms folded without a change of any number, islands in fp32, results within their bounds."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from centermask.model.torch_network import TorchNetwork
from centermask_export.checks.against_weights import openvino_network
from centermask_export.checks.outputs import (
    compare_networks,
)
from centermask_export.onnx_file import read_spec
from centermask_export.to_fp16 import fold_batch_norms, half_precision
from tests.support.exported_models import (
    OPTIONS,
    SMALL,
    frames,
    released,
    released_onnx,
)

KINDS = (*OPTIONS, "int8")
FLOAT, HALF, INT32, UINT8 = (getattr(onnx.TensorProto, name) for name in ("FLOAT", "FLOAT16", "INT32", "UINT8"))


def test_folding_batch_norms_changes_no_number():
    folded = fold_batch_norms(released()[0])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in released()[0].modules()), "the model itself was changed"
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *SMALL, 3), dtype=np.uint8))
    with torch.inference_mode():
        torch.testing.assert_close(folded.features(images), released()[0].features(images), atol=1e-4, rtol=1e-4)


def test_a_norm_that_is_used_twice_or_not_behind_a_convolution_stays():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = torch.zeros(1)
            self.conv, self.twice, self.alone, self.last = (
                nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            )  # fmt: skip

        def features(self, images):
            x = self.twice(self.conv(images.float().permute(0, 3, 1, 2)))
            return self.last(torch.relu(self.alone(torch.relu(self.twice(x)))))

    kept = [name for name, module in fold_batch_norms(Odd()).named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert kept == ["twice", "alone", "last"]


@pytest.mark.slow
def test_the_fp16_file_is_typed_with_its_islands_in_fp32():
    graph = onnx.shape_inference.infer_shapes(onnx.load(released_onnx("fp16"))).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            assert {types[name] for name in node.input} == {HALF}
        if node.op_type in ("Sigmoid", "TopK"):
            assert types[node.input[0]] == FLOAT
    named = {tensor.name.removeprefix("model."): tensor.data_type for tensor in graph.initializer}
    heads = {name: kind for name, kind in named.items() if name.startswith(("offset.", "size.", "shape."))}
    if heads:  # the exporter may have folded their reshaping
        assert all(kind == (HALF if name.startswith("shape.") else FLOAT) for name, kind in heads.items())
    assert released_onnx("fp16").stat().st_size < 0.6 * released_onnx("fp32").stat().st_size


def test_bf16_keeps_transposed_convolutions_in_fp32():
    half = half_precision(released()[0], "bf16")
    transposed = [module for module in half.modules() if isinstance(module, nn.ConvTranspose2d)]
    assert transposed and {module.weight.dtype for module in transposed} == {torch.float32}
    plain = {module.weight.dtype for module in half.base.modules() if isinstance(module, nn.Conv2d)}
    assert plain == {torch.bfloat16}


@pytest.mark.slow
def test_bf16_equals_pytorch_within_its_bound(tmp_path):
    """ONNX Runtime has no kernels for it; OpenVINO runs the file."""
    pytest.importorskip("openvino")
    network = openvino_network(released_onnx("bf16"), read_spec(released_onnx("bf16")), tmp_path)
    assert network is not None
    with network:
        report = compare_networks(TorchNetwork(*released()), network, frames(3))
    report.require(released_onnx("bf16"))

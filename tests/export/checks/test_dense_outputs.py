# SPDX-License-Identifier: Apache-2.0
"""Level heads: dense maps equal PyTorch's, and hold what the peaks are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from centermask_export.checks.dense_outputs import compare_heads
from centermask_export.onnx_file import read_spec
from centermask_runtime.networks.gpu_network import OUTPUT_NAMES
from tests.support.exported_models import (
    SMALL,
    frames,
    released,
    released_onnx,
)

pytestmark = pytest.mark.slow


def test_dense_heads_equal_pytorch_and_hold_what_the_peaks_are_made_of():
    spec = read_spec(released_onnx("heads_fp16"))
    assert spec.graph_level == "heads" and spec.precision == "fp16"
    report = compare_heads(released()[0], released_onnx("heads_fp16"), spec, frames(2))
    report.require(released_onnx("heads_fp16"))
    assert [output.name for output in report.outputs] == list(OUTPUT_NAMES["heads"]) and report.images == 2
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, *SMALL, 3), dtype=np.uint8))
    with torch.inference_mode():
        heads, peaks = released()[0].heads(images), released()[0].peaks(images)
    best = heads.heatmap.sigmoid().max()
    y, x = divmod(int(heads.heatmap.argmax()), 32)
    torch.testing.assert_close(peaks.scores[0, 0], best)
    torch.testing.assert_close(peaks.shapes[0, 0].flatten(), heads.shapes[0, :, y, x], atol=1e-4, rtol=0)
    centre = (torch.tensor([x, y]) + heads.offsets[0, :, y, x]) * 4
    torch.testing.assert_close(peaks.boxes[0, 0, :2] + peaks.boxes[0, 0, 2:], centre * 2, atol=1e-3, rtol=0)
    torch.testing.assert_close(peaks.saliency, heads.saliency)

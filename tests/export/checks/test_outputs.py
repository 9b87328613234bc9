# SPDX-License-Identifier: Apache-2.0
"""Outputs of two networks as sets: what matches, what may stay alone, and what is a difference."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from centermask.model.torch_network import TorchNetwork
from centermask_export.checks import CheckError
from centermask_export.checks.outputs import (
    Bounds,
    OutputDifference,
    OutputsReport,
    bounds_of,
    compare_networks,
    match_detections,
)
from centermask_runtime.errors import ExportError
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from tests.support.exported_models import (
    frames,
    tiny_model,
    tiny_onnx,
    tiny_spec,
)

# ---- matching detections --------------------------------------------------------------------------------------------


def outputs_of(scores: list[float], boxes: list[float], labels: list[int]) -> PeakOutputs:
    corner = np.array(boxes, np.float32)[:, None] + np.array([0, 0, 10, 10], np.float32)
    k = len(scores)
    return PeakOutputs(
        np.array([scores], np.float32), np.array([labels], np.int32), corner[None],
        np.zeros((1, k, 2, 2), np.float32), np.zeros((1, 1, 4, 4), np.float32),
    )  # fmt: skip


def test_equal_scores_in_another_order_match():
    one = outputs_of([0.9, 0.5, 0.5], [0, 20, 40], [0, 0, 1])
    other = outputs_of([0.9, 0.5, 0.5], [0, 40, 20], [0, 1, 0])
    pairs, alone = match_detections(one, other, 0)
    assert pairs.tolist() == [[0, 0], [1, 2], [2, 1]] and alone == 0


def test_only_a_tie_at_the_cut_may_stay_alone():
    one = outputs_of([0.9, 0.5, 0.3001], [0, 20, 40], [0, 0, 0])
    tie = outputs_of([0.9, 0.5, 0.3], [0, 20, 70], [0, 0, 0])
    assert match_detections(one, tie, 0)[1] == 0
    lost = outputs_of([0.9, 0.3, 0.3], [0, 70, 40], [0, 0, 0])
    assert match_detections(one, lost, 0)[1] == 1  # the one of score 0.5


def test_the_same_box_of_another_class_is_another_detection():
    one, other = outputs_of([0.9, 0.1], [0, 50], [0, 0]), outputs_of([0.9, 0.1], [0, 50], [1, 0])
    assert match_detections(one, other, 0)[1] == 2


def test_fill_of_score_zero_is_not_compared():
    one, other = outputs_of([0.9, 0.0], [0, 50], [0, 0]), outputs_of([0.9, 0.0], [0, 80], [0, 1])
    pairs, alone = match_detections(one, other, 0)
    assert pairs.tolist() == [[0, 0]] and alone == 0


def test_only_confident_detections_must_have_a_partner():
    def outputs(*scores):
        k = len(scores)
        boxes = np.arange(k, dtype=np.float32)[:, None] * 20 + np.array([0, 0, 9, 9], np.float32)
        return PeakOutputs(
            np.array([scores], np.float32), np.zeros((1, k), np.int32), boxes[None],
            np.zeros((1, k, 2, 2), np.float32), np.zeros((1, 1, 4, 4), np.float32),
        )  # fmt: skip

    one, other = outputs(0.9, 0.3, 0.24, 0.1), outputs(0.9, 0.0, 0.0, 0.0)
    bounds = Bounds({"scores": 0.01}, confident=0.25)
    assert match_detections(one, other, 0, bounds)[1] == 1
    assert match_detections(one, other, 0, dataclasses.replace(bounds, confident=0.0))[1] == 2
    assert bounds_of("fp32").alone == 0 and bounds_of("int8").of_mean


# ---- the verdict ----------------------------------------------------------------------------------------------------


def report(unmatched: int, alone: float) -> OutputsReport:
    return OutputsReport(1, 50, unmatched, (OutputDifference("scores", 0.3, 0.01, 0.02, of_mean=True),), alone)


def test_a_share_may_stay_alone_and_means_may_be_bounded():
    assert report(0, 0.0).ok and not report(1, 0.0).ok
    assert report(10, 0.1).ok and not report(12, 0.1).ok  # 12 of 112
    assert not OutputDifference("scores", 0.3, 0.01, 0.02).ok


def test_nothing_to_compare_is_no_success():
    report = OutputsReport(2, 0, 0, (OutputDifference("scores", 0.0, 0.0, 1e-3),))
    assert not report.ok
    with pytest.raises(ExportError, match="finding nothing to compare"):
        report.require(Path("x.onnx"))


def test_a_difference_that_is_not_a_number_is_a_difference():
    assert not OutputDifference("scores", float("nan"), 0.0, 1e-3).ok


@pytest.mark.slow
def test_a_tampered_graph_is_caught(tmp_path):
    """One initializer of one head changed: the file loads and runs, and is still found out."""
    graph = onnx.load(tiny_onnx())
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("shape.2.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.05), bias.name))
    path = tmp_path / "tampered.onnx"
    onnx.save(graph, path)
    with OnnxRuntimeNetwork(path, threads=2) as network:
        report = compare_networks(TorchNetwork(tiny_model(), tiny_spec()), network, frames(2))
    assert not report.ok and [output.name for output in report.outputs if not output.ok] == ["shapes"]
    with pytest.raises(
        CheckError, match=r"tampered.onnx does not give what its source gives .*shapes by 0.05"
    ) as caught:
        report.require(path)
    assert caught.value.exit_code == 5 and caught.value.report is report

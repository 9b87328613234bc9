# SPDX-License-Identifier: Apache-2.0
"""int8: around convolutions only, with ranges from images spread over their source."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from centermask_export.batches import batches
from centermask_export.onnx_file import read_spec
from centermask_export.to_int8 import CalibrationBatches, calibration_count, calibration_images, kept_nodes
from centermask_runtime.errors import DataError
from tests.support.exported_models import (
    NUCLEI,
    released_onnx,
)


@pytest.mark.slow
def test_int8_is_around_convolutions_only_and_not_before_the_sigmoids():
    graph = onnx.load(released_onnx("int8")).graph
    made_by = {name: node for node in graph.node for name in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kept, quantised = [], 0
    for node in graph.node:
        source = made_by.get(node.input[0])
        if node.op_type == "Conv" and source is not None and source.op_type == "DequantizeLinear":
            quantised += 1
            scales = made_by[node.input[1]].input[1]
            channels = weights[made_by[node.input[1]].input[0]].dims[0]
            assert list(weights[scales].dims) == [channels], "weights have one scale a channel"
        elif node.op_type == "Conv":
            kept.append(node.name)
    assert sorted(kept) == sorted(kept_nodes(onnx.load(released_onnx("fp32")))) and len(kept) == 2
    assert quantised > 50
    for node in graph.node:
        if node.op_type == "QuantizeLinear":  # symmetric
            assert not onnx.numpy_helper.to_array(weights[node.input[2]]).any()
            assert weights[node.input[2]].data_type == onnx.TensorProto.INT8
        if node.op_type in ("Sigmoid", "TopK", "MatMul", "Gemm"):
            assert "DequantizeLinear" not in {made_by[name].op_type for name in node.input if name in made_by}
    assert read_spec(released_onnx("int8")).precision == "int8"


def test_calibration_images_are_spread_over_the_source_and_padded_to_the_batch():
    folder = NUCLEI / "val"
    count, used = calibration_count(folder, 0.5)
    assert count == 7 and used == 4
    seen = []
    chosen = list(calibration_images(folder, 0.5, lambda loop, count, title: seen.append(count) or loop))
    every = list(calibration_images(folder, None, lambda loop, count, title: loop))
    assert seen == [4] and len(every) == 7
    for image, index in zip(chosen, (0, 1, 3, 5), strict=True):
        np.testing.assert_array_equal(image, every[index])
    assert calibration_count(folder, 0.01) == (7, 1)  # at least one
    reader = CalibrationBatches(batches(chosen, (64, 96), 3), "images")
    read = [reader.get_next()["images"], reader.get_next()["images"]]
    assert [batch.shape for batch in read] == [(3, 64, 96, 3)] * 2 and reader.get_next() is None
    np.testing.assert_array_equal(read[1][0], read[1][2])


def test_a_folder_without_images_cannot_calibrate(tmp_path):
    with pytest.raises(DataError):
        calibration_count(tmp_path, None)

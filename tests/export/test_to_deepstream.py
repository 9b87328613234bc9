# SPDX-License-Identifier: Apache-2.0
"""The DeepStream folder: the graph takes nvinfer's input, and the C++ parser gives the masks of reference/masks.py.

DeepStream itself needs an NVIDIA GPU and is not tried here. The parser is compiled against hand-written declarations of
its public structures and called as nvinfer calls it.
"""

from __future__ import annotations

import configparser
import ctypes
import dataclasses
import shutil
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest

from centermask_export.onnx_file import read_spec
from centermask_export.to_deepstream import CONFIG, SOURCES, write_deepstream
from centermask_runtime.errors import ExportError, UsageError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.networks.network import PEAKS_OUTPUTS, PeakOutputs
from centermask_runtime.reference import masks
from tests.runtime.networks.test_onnx_runtime import tiny_graph
from tests.support.exported_models import SMALL, released_onnx
from tests.support.places import ROOT

DECLARATIONS = ROOT / "tests" / "support" / "deepstream"
POINTER = ctypes.c_void_p


@pytest.fixture(scope="module")
def parser(tmp_path_factory):
    """The parser and a harness as one shared library, warnings being errors."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("parser") / "parser.so"
    sources = [SOURCES / "nvdsinfer_centermask.cpp", DECLARATIONS / "harness.cpp"]
    flags = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
    command = [compiler, *flags, "-shared", "-fPIC", f"-I{DECLARATIONS}", *map(str, sources), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def parse(parser, outputs: PeakOutputs, input_hw, classes, threshold=0.0, without=-1):
    """Objects [n, 8] (class, left, top, width, height, score, mask width and height) and their masks."""
    arrays = [np.ascontiguousarray(getattr(outputs, name)[0]) for name in PEAKS_OUTPUTS]
    count, size = arrays[3].shape[:2]
    sides = np.array([count, size, *arrays[4].shape, input_hw[1], input_hw[0], classes], np.uint32)
    objects = np.zeros((count, 8), np.float32)
    flat = np.zeros(count * 160 * 160, np.float32)
    pointers = [array.ctypes.data_as(POINTER) for array in (*arrays, sides)]
    found = parser.parse(
        *pointers, ctypes.c_float(threshold), without, objects.ctypes.data_as(POINTER), flat.ctypes.data_as(POINTER)
    )
    if found < 0:
        return None
    parts, start = [], 0
    for width, height in objects[:found, 6:].astype(int):
        parts.append(flat[start : start + width * height].reshape(height, width))
        start += width * height
    return objects[:found], parts


def whole_pixel_boxes(outputs: PeakOutputs) -> PeakOutputs:
    """Edges on pixels, so that a mask cell is exactly an input pixel."""
    return dataclasses.replace(outputs, boxes=np.round(outputs.boxes))


@pytest.mark.process
def test_masks_are_those_of_the_reference_pixel_by_pixel(parser, small_spec, small_outputs):
    outputs = whole_pixel_boxes(small_outputs)
    height, width = small_spec.input_hw
    objects, found = parse(parser, outputs, (height, width), 3)
    letterbox = Letterbox.fit((height, width), (height, width))  # the frame is the input
    expected = masks.box_masks(
        outputs.boxes[0], outputs.labels[0], outputs.shapes[0], outputs.saliency[0], letterbox, 4,
        small_spec.mask_threshold,
    )  # fmt: skip
    assert len(objects) == len(expected) == 8
    for index, (row, values) in enumerate(zip(objects, found, strict=True)):
        x0, y0, x1, y1 = expected.rects[index]
        np.testing.assert_array_equal(row[1:5], [x0, y0, x1 - x0, y1 - y0])  # cut at the edges of the input
        assert row[0] == outputs.labels[0, index] and row[5] == outputs.scores[0, index]
        differ = (values >= small_spec.mask_threshold) != expected.crop(index)
        near = np.abs(values - small_spec.mask_threshold) < 1e-5  # sums in another order
        assert not (differ & ~near).any() and 0 <= values.min() and values.max() <= 1


@pytest.mark.process
def test_one_saliency_map_serves_all_classes(parser, small_spec, small_outputs):
    one = dataclasses.replace(small_outputs, saliency=small_outputs.saliency[:, :1])
    same = dataclasses.replace(small_outputs, saliency=np.repeat(small_outputs.saliency[:, :1], 3, axis=1))
    for a, b in zip(parse(parser, one, (64, 96), 3)[1], parse(parser, same, (64, 96), 3)[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.process
def test_scores_below_the_threshold_and_labels_of_no_class_are_left_out(parser, small_outputs):
    scores = small_outputs.scores[0]
    limit = float(np.sort(scores)[4])
    objects, _ = parse(parser, small_outputs, (64, 96), 3, threshold=limit)
    np.testing.assert_array_equal(objects[:, 5], scores[scores >= np.float32(limit)])
    objects, _ = parse(parser, small_outputs, (64, 96), 2)
    np.testing.assert_array_equal(objects[:, 0], small_outputs.labels[0][small_outputs.labels[0] < 2])


@pytest.mark.process
def test_a_large_mask_is_bounded_and_boxes_without_pixels_are_left_out(parser, small_outputs):
    boxes = small_outputs.boxes.copy()
    boxes[0, 0] = [-50, -50, 900, 700]
    boxes[0, 1] = [10, 10, 10, 20]
    boxes[0, 2] = [-30, 5, -10, 20]
    boxes[0, 3] = np.nan
    boxes[0, 4, 2] = np.inf
    outputs = dataclasses.replace(small_outputs, boxes=boxes)
    objects, found = parse(parser, outputs, (640, 800), 3)
    assert len(objects) == 4
    np.testing.assert_array_equal(objects[0, 1:5], [0, 0, 800, 640])
    assert found[0].shape == (160, 160)


@pytest.mark.process
@pytest.mark.parametrize("without", range(5))
def test_an_engine_without_one_of_the_outputs_is_refused(parser, small_outputs, without, capfd):
    assert parse(parser, small_outputs, (64, 96), 3, without=without) is None
    assert "CenterMask: the engine has no output" in capfd.readouterr().err


# ---- the folder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["N", 2])
def test_planes_of_floats_give_what_the_pixels_gave(small_spec, small_outputs, tmp_path, batch):
    source = tmp_path / "small.onnx"
    onnx.save(tiny_graph(small_spec, small_outputs, batch=batch), source)
    folder = write_deepstream(source, small_spec, tmp_path / "deepstream")
    graph = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(float)", [batch, 3, 64, 96])
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    planes = images.transpose(0, 3, 1, 2).astype(np.float32)
    original = onnxruntime.InferenceSession(source).run(PEAKS_OUTPUTS, {"images": images})
    for a, b in zip(session.run(PEAKS_OUTPUTS, {"images": planes}), original, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_an_exported_graph_of_any_batch_takes_planes_too(tmp_path):
    """It reads the shape of its images beside their pixels."""
    source = released_onnx("dynamic")
    folder = write_deepstream(source, read_spec(source), tmp_path / "deepstream")
    images = np.random.default_rng(0).integers(0, 256, (2, *SMALL, 3), dtype=np.uint8)
    planes = images.transpose(0, 3, 1, 2).astype(np.float32)
    expected = onnxruntime.InferenceSession(source).run(PEAKS_OUTPUTS, {"images": images})
    found = onnxruntime.InferenceSession(folder / "model.onnx").run(PEAKS_OUTPUTS, {"images": planes})
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_configuration_names_files_that_are_there_and_the_models_numbers(small_spec, small_outputs, tmp_path):
    source = tmp_path / "small.onnx"
    onnx.save(tiny_graph(small_spec, small_outputs, batch=2), source)
    folder = write_deepstream(source, small_spec, tmp_path / "deepstream")
    config = configparser.ConfigParser()
    config.read(folder / CONFIG)
    values = config["property"]
    assert (folder / values["onnx-file"]).is_file()
    assert (folder / values["labelfile-path"]).read_text() == "cat\ndog\nkite\n"
    assert values["custom-lib-path"].removeprefix("./") in (folder / "Makefile").read_text()
    assert (
        f'"C" bool {values["parse-bbox-instance-mask-func-name"]}' in (folder / "nvdsinfer_centermask.cpp").read_text()
    )
    assert (values["infer-dims"], values["batch-size"], values["num-detected-classes"]) == ("3;64;96", "2", "3")
    assert float(values["segmentation-threshold"]) == small_spec.mask_threshold
    assert float(config["class-attrs-all"]["pre-cluster-threshold"]) == small_spec.score_threshold
    assert (values["net-scale-factor"], values["model-color-format"], values["network-type"]) == ("1", "1", "3")


def test_graphs_that_it_cannot_serve_are_refused(small_spec, small_outputs, tmp_path):
    source = tmp_path / "small.onnx"
    onnx.save(tiny_graph(small_spec, small_outputs, input_type=onnx.TensorProto.FLOAT), source)
    with pytest.raises(ExportError, match="does not begin with a cast of uint8"):
        write_deepstream(source, small_spec, tmp_path / "deepstream")
    with pytest.raises(UsageError, match="needs a graph of level peaks"):
        write_deepstream(source, dataclasses.replace(small_spec, graph_level="heads"), tmp_path / "deepstream")
    with pytest.raises(UsageError, match="no precision bf16"):
        write_deepstream(source, dataclasses.replace(small_spec, precision="bf16"), tmp_path / "deepstream")
    assert not (tmp_path / "deepstream").exists()

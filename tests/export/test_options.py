# SPDX-License-Identifier: Apache-2.0
"""What an export can be asked for: each senseless wish is refused in one sentence, before any work."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from centermask.cli import main
from centermask_export.convert import default_name
from centermask_export.engines import to_tensorrt
from centermask_export.options import ExportOptions, parse_size, parse_sizes, parse_targets
from centermask_export.to_onnx import sized
from centermask_runtime.errors import UsageError
from tests.support.places import NUCLEI

CALIBRATED = {"precision": "int8", "calib_data": Path("images")}


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"batch": 0}, r"--batch must be at least 1, not 0\."),
        ({"imgsz": (500, 512)}, r"multiples of 32 on both sides, not 500x512; the nearest is 512x512"),
        ({"imgsz": (0, 32)}, r"not 0x32; the nearest is 32x32"),
        ({"dynamic_imgsz": ((64, 64), (96, 100), (128, 128))}, r"--dynamic-imgsz must be multiples of 32"),
        ({"dynamic_imgsz": ((64, 64), (32, 96), (128, 128))}, "must rise from smallest to largest"),
        ({"dynamic_imgsz": ((64, 64),) * 3, "imgsz": (64, 64)}, "were both given"),
        ({"opset": 11}, r"--opset 11 is not supported; choose 18 to 23\."),
        ({"opset": 20, "format": "torchscript"}, "has no operator set"),
        ({"opset": 18, "precision": "bf16"}, "no convolution in bf16; choose 22 or more"),
        ({"precision": "fp8"}, "--precision fp8 is not known"),
        ({"precision": "bf16", "format": "triton"}, "takes fp32, fp16, int8"),
        ({"precision": "fp16", "format": "torchscript"}, "takes fp32"),
        ({"graph": "heads", "format": "openvino"}, "--graph heads was asked of --format openvino"),
        ({"dynamic": True, "format": "torchscript"}, "traced for one size"),
        ({"dynamic": True, "format": "trt-rtx"}, "--dynamic needs --batch"),
        ({"dynamic_imgsz": ((64, 64),) * 3, "format": "deepstream"}, "serves one image size"),
        ({"calib_data": Path("x")}, "--calib-data is for --precision int8, not fp32"),
        ({"fraction": 0.5}, "--fraction is for --precision int8"),
        ({**CALIBRATED, "fraction": 0.0}, "--fraction must lie above 0 and up to 1, not 0"),
        ({**CALIBRATED, "fraction": 1.5}, "--fraction must lie above 0"),
        ({"targets": ("sm86",)}, "--targets is for --format trt-rtx, not onnx"),
        ({"targets": ("sm86",), "format": "trt"}, "TensorRT builds for the GPU of this machine"),
        ({"targets": ("sm90",), "format": "trt-rtx"}, "--targets sm90 is nothing that TensorRT-RTX builds for"),
        ({"workspace_gib": 2.0}, "--workspace is for --format trt and trt-rtx, not onnx"),
        ({"workspace_gib": 0.0, "format": "trt"}, "more than 0 GiB"),
        ({"timing_cache": Path("c"), "format": "trt-rtx"}, "timed and chosen on the user's GPU"),
        ({"timing_cache": Path("no/folder/c"), "format": "trt"}, "in a folder that does not exist"),
        ({"version_compatible": True, "format": "trt-rtx"}, "--version-compatible is for --format trt"),
        ({"hardware_compatibility": "ampere+"}, "--hardware-compatibility is for --format trt"),
        ({"hardware_compatibility": "all", "format": "trt"}, "--hardware-compatibility all is not known"),
        ({"backend": "tensorrt"}, "--backend is for --format triton"),
        ({"device": -1}, "0 or more"),
    ],
)
def test_senseless_wishes_are_refused(wishes, words):
    with pytest.raises(UsageError, match=words) as caught:
        ExportOptions(**wishes)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value)


def test_int8_of_weights_needs_images():
    with pytest.raises(UsageError, match="--precision int8 needs --calib-data"):
        ExportOptions(precision="int8").require_calibration()


def test_bf16_takes_the_first_operator_set_that_has_it():
    assert ExportOptions().graph_opset == 18
    assert ExportOptions(precision="bf16").graph_opset == 22
    assert ExportOptions(precision="bf16", format="openvino").graph_opset == 18  # made by OpenVINO of an fp32 graph


def test_sizes_and_targets_are_read_as_trtexec_and_nvcc_users_write_them():
    assert parse_size("512") == (512, 512) and parse_size("480x640") == (480, 640)
    assert parse_sizes("256, 480x640,1024") == ((256, 256), (480, 640), (1024, 1024))
    assert parse_targets("sm86,SM89") == ("sm86", "sm89") and parse_targets("8.6, 12.0") == ("sm86", "sm120")
    for text in ("", "axb", "512x", "-32", "3.5"):
        with pytest.raises(UsageError, match="HEIGHTxWIDTH"):
            parse_size(text)
    with pytest.raises(UsageError, match="needs three sizes"):
        parse_sizes("256,512")


def test_a_model_with_a_coarser_map_needs_coarser_sizes(small_spec):
    coarse = dataclasses.replace(small_spec, input_hw=(128, 128), size_multiple=128)
    wish = ExportOptions(imgsz=(128, 160))
    assert sized(small_spec, wish).input_hw == (128, 160)
    with pytest.raises(UsageError, match=r"--imgsz must be multiples of 128 for 'small', not 128x160"):
        sized(coarse, wish)
    wish = ExportOptions(dynamic_imgsz=((128, 128), (256, 256), (256, 288)))
    assert sized(small_spec, wish).input_hw == (256, 256)
    with pytest.raises(UsageError, match=r"--dynamic-imgsz must be multiples of 128 for 'small', not 256x288"):
        sized(coarse, wish)


def test_names_say_what_is_in_a_file():
    assert default_name("nuclei", ExportOptions()) == "nuclei.onnx"
    assert default_name("nuclei", ExportOptions(precision="fp16", graph="heads")) == "nuclei_fp16_heads.onnx"
    assert default_name("nuclei", ExportOptions(format="trt", precision="fp16"), "int8") == "nuclei_int8.engine"
    assert default_name("nuclei", ExportOptions(format="trt-rtx")) == "nuclei_rtx.engine"
    assert default_name("nuclei", ExportOptions(format="triton")) == "nuclei_triton"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--int8"], 2, "needs --calib-data"),
        (["--int8", "--calib-data", "nowhere"], 3, "nowhere"),
        (["--half", "--int8"], 2, "fp16 and int8"),
        (["--imgsz", "500"], 2, "multiples of 32"),
        (["--imgsz", "32"], 2, "64 heat-map cells, too few for the 400 detections"),
        (["--max-ap-drop", "0.1"], 2, "needs --verify"),
        (["--verify", "nowhere"], 3, "nowhere"),
        (["--graph", "heads", "--verify", str(NUCLEI)], 2, "ends before them"),
    ],
)
def test_the_command_refuses_before_any_work(arguments, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["export", "--model", "nuclei_dla_46c", *arguments])
    printed = capsys.readouterr()
    assert caught.value.code == code and printed.err.startswith("Error: ") and words in printed.err
    assert list(tmp_path.iterdir()) == []


def test_tensorrt_without_its_package_names_rtx_and_the_command_for_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(to_tensorrt.LIBRARIES, "trt", "no_such_tensorrt")
    with pytest.raises(SystemExit) as caught:
        main(["export", "--model", "nuclei_dla_46c", "--format", "trt", "--half"])
    sentence = capsys.readouterr().err
    assert caught.value.code == 2 and "is not installed" in sentence and "--format trt-rtx" in sentence
    assert "nuclei_dla_46c.safetensors --format trt --precision fp16" in sentence
    assert list(tmp_path.iterdir()) == []  # nothing else was built instead


def test_tensorrt_without_a_gpu_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(to_tensorrt.LIBRARIES, "trt", "json")  # a package that is there
    monkeypatch.setattr(to_tensorrt, "find_gpu", lambda device: None)
    with pytest.raises(SystemExit) as caught:
        main(["export", "--model", "nuclei_dla_46c", "--format", "trt"])
    assert caught.value.code == 5 and "GPU 0 is not here" in capsys.readouterr().err

# SPDX-License-Identifier: Apache-2.0
"""What an export can be asked for: what makes no sense for any format is refused in one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from centermask_export.options import ExportOptions, parse_size, parse_sizes, parse_targets, sized
from centermask_runtime.errors import UsageError

CALIBRATED = {"precision": "int8", "calib_data": Path("images")}


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"batch": 0}, r"batch must be a whole number from 1 to 4096, not 0\."),
        ({"dynamic_imgsz": ((64, 64), (32, 96), (128, 128))}, "must rise from smallest to largest, not 64x64, 32x96"),
        ({"dynamic_imgsz": ((64, 64),) * 3, "imgsz": (64, 64)}, "were both given"),
        ({"opset": 11}, r"opset 11 is not supported; choose 18 to 23\."),
        ({"calib_data": Path("x")}, "calib_data is for precision int8, not fp32"),
        ({"fraction": 0.5}, "fraction is for precision int8"),
        ({**CALIBRATED, "fraction": 0.0}, "fraction must lie above 0 and up to 1, not 0"),
        ({**CALIBRATED, "fraction": 1.5}, "fraction must lie above 0"),
        ({"targets": ("sm90",)}, "targets has sm90, which TensorRT-RTX does not build for; did you mean"),
        ({"workspace": 0.0}, "more than 0 GiB"),
        ({"timing_cache": Path("no/folder/c")}, "in a folder that does not exist"),
        ({"hardware_compatibility": "all"}, "hardware_compatibility all is not known"),
        ({"device": -1}, "device must be a whole number of at least 0"),
    ],
)
def test_what_no_format_can_be_is_refused(wishes, words):
    with pytest.raises(UsageError, match=words) as caught:
        ExportOptions(**wishes)
    assert caught.value.exit_code == 2 and "\n" not in str(caught.value) and "--" not in str(caught.value)


def test_bf16_takes_the_first_operator_set_that_has_it():
    assert ExportOptions().graph_opset == 18
    assert ExportOptions(precision="bf16").graph_opset == 22
    assert ExportOptions(precision="bf16", opset=23).graph_opset == 23


def test_sizes_and_targets_are_read_as_trtexec_and_nvcc_users_write_them():
    assert parse_size("512") == (512, 512) and parse_size("480x640") == (480, 640)
    assert parse_sizes("256, 480x640,1024") == ((256, 256), (480, 640), (1024, 1024))
    assert parse_targets("sm86,SM89") == ("sm86", "sm89") and parse_targets("8.6, 12.0") == ("sm86", "sm120")
    for text in ("", "axb", "512x", "-32", "3.5"):
        with pytest.raises(UsageError, match="HEIGHTxWIDTH"):
            parse_size(text)
    with pytest.raises(UsageError, match="needs three sizes"):
        parse_sizes("256,512")


def test_a_size_is_a_multiple_of_what_the_model_needs(small_spec):
    coarse = dataclasses.replace(small_spec, input_hw=(128, 128), size_multiple=128)
    wish = ExportOptions(imgsz=(128, 160))
    assert sized(small_spec, wish).input_hw == (128, 160)
    with pytest.raises(
        UsageError, match=r"^imgsz must be multiples of 128 on both sides for 'small', not 128x160; .*128x"
    ):
        sized(coarse, wish)
    wish = ExportOptions(dynamic_imgsz=((128, 128), (256, 256), (256, 288)))
    assert sized(small_spec, wish).input_hw == (256, 256)
    with pytest.raises(UsageError, match=r"^dynamic_imgsz must be multiples of 128 .* not 256x288"):
        sized(coarse, wish)
    for size, nearest in (((500, 512), "512x512"), ((0, 32), "32x32")):
        with pytest.raises(UsageError, match=rf"not {size[0]}x{size[1]}; the nearest is {nearest}"):
            sized(small_spec, ExportOptions(imgsz=size))


def test_a_size_has_a_cell_for_each_detection(small_spec):
    with pytest.raises(UsageError, match="imgsz 32x32 has 192 heat-map cells, too few for the 200 detections"):
        sized(dataclasses.replace(small_spec, max_detections=200), ExportOptions(imgsz=(32, 32)))

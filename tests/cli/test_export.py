# SPDX-License-Identifier: Apache-2.0
"""From weights to a published artefact: bounds of each precision, names, the gate of AP, conversion of an ONNX file."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from centermask.cli import main
from centermask.opening import find_model
from centermask_export import export
from centermask_export.checks.fixed_batch import Repeated
from centermask_export.checks.outputs import Bounds, OutputParity, ParityReport, bounds_of, match_detections
from centermask_export.convert import convert_onnx
from centermask_export.onnx_file import read_spec
from centermask_export.options import ExportOptions
from centermask_runtime.errors import UsageError
from centermask_runtime.networks.network import PeakOutputs
from tests.support.exported_models import NUCLEI, OPTIONS, RELEASED, released_onnx

pytestmark = pytest.mark.usefixtures("two_threads")


# ---- bounds ---------------------------------------------------------------------------------------------------------


def report(unmatched: int, alone: float) -> ParityReport:
    return ParityReport(1, 50, unmatched, (OutputParity("scores", 0.3, 0.01, 0.02, of_mean=True),), alone)


def test_a_share_may_stay_alone_and_means_may_be_bounded():
    assert report(0, 0.0).ok and not report(1, 0.0).ok
    assert report(10, 0.1).ok and not report(12, 0.1).ok  # 12 of 112
    assert not OutputParity("scores", 0.3, 0.01, 0.02).ok


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


# ---- orchestration --------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The released weights, and an exporter that gives its file without doing the work again."""

    def copy(model, spec, path, options, *, source):
        wanted = "fp32" if options.onnx_precision == "int8" else options.onnx_precision
        kind = next(kind for kind, made in OPTIONS.items() if made.precision == wanted)
        shutil.copyfile(released_onnx(kind), path)
        return read_spec(path)

    monkeypatch.setattr(export, "export_onnx", copy)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.safetensors"
    shutil.copyfile(find_model(RELEASED), path)
    return path


def test_an_engine_is_named_by_what_was_built_and_lies_beside_the_weights(weights, capsys):
    pytest.importorskip("tensorrt_rtx")
    main_ok("export", "--model", weights, "--imgsz", 128, "--format", "trt-rtx", "--half")
    names = ["mine.safetensors", "mine_fp16_rtx.engine", "mine_fp16_rtx.engine.json"]
    assert sorted(path.name for path in weights.parent.iterdir()) == names
    printed = capsys.readouterr().out
    assert "the engine itself was not run" in " ".join(printed.split()) and "fp16" in printed


def test_int8_is_calibrated_checked_and_measured(weights, capsys):
    main_ok(
        "export", "--model", weights, "--imgsz", 128, "--int8", "--calib-data", NUCLEI / "val", "--source",
        NUCLEI / "val", "--verify", NUCLEI, "--max-ap-drop", 0.05,
    )  # fmt: skip
    assert sorted(path.name for path in weights.parent.iterdir()) == ["mine.safetensors", "mine_int8.onnx"]
    printed = capsys.readouterr().out
    assert "AP of the weights" in printed and "on average" in printed


def test_an_artefact_that_lost_ap_is_not_published(weights, monkeypatch, capsys):
    """The gate of AP, with a network that finds nothing in place of the artefact."""

    class Blind(Repeated):
        def run(self, images):
            outputs = super().run(images)
            return dataclasses.replace(outputs, scores=np.zeros_like(outputs.scores))

    monkeypatch.setattr(export, "Repeated", Blind)
    with pytest.raises(SystemExit) as caught:
        main(["export", "--model", str(weights), "--imgsz", "128", "--verify", str(NUCLEI)])
    printed = capsys.readouterr()
    assert caught.value.code == 5 and "FAILED" in printed.out and "AP is 0.0000 where its source has" in printed.err
    assert [path.name for path in weights.parent.iterdir()] == ["mine.safetensors"]


def test_an_onnx_file_becomes_an_engine_without_weights(tmp_path):
    pytest.importorskip("tensorrt_rtx")
    options = ExportOptions(format="trt-rtx")
    written = convert_onnx(released_onnx("int8"), tmp_path, None, options)
    assert written.output == tmp_path / f"{RELEASED}_int8_rtx.engine" and written.precision == "int8"
    for wish, flag in (
        (ExportOptions(format="trt-rtx", precision="fp16"), "--precision"),
        (ExportOptions(format="trt-rtx", imgsz=(64, 64)), "--imgsz"),
        (ExportOptions(format="trt-rtx", graph="heads"), "--graph"),
        (ExportOptions(format="trt-rtx", opset=18), "--opset"),
    ):
        with pytest.raises(UsageError, match=f"{flag} cannot change .* exported already"):
            convert_onnx(released_onnx("int8"), tmp_path, None, wish)
    with pytest.raises(UsageError, match="takes batches of 1 only"):
        convert_onnx(released_onnx("fp32"), tmp_path, None, ExportOptions(format="trt-rtx", batch=4))
    sizes = ExportOptions(format="trt-rtx", dynamic_imgsz=((64, 64), (96, 96), (128, 128)))
    with pytest.raises(UsageError, match=r"takes images of .* only"):
        convert_onnx(released_onnx("fp32"), tmp_path, None, sizes)


def main_ok(*arguments: object) -> None:
    main([str(argument) for argument in arguments])

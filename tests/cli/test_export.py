# SPDX-License-Identifier: Apache-2.0
"""`centermask export`: refusals before any work, tables and exit codes, the line that says what to do next."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from centermask.cli import main
from centermask.model.weights import save_weights
from centermask.opening import find_model
from centermask_export import from_weights, refusals
from centermask_export.checks import against_weights, outputs
from centermask_export.checks.fixed_batch import Repeated
from centermask_export.formats import FORMATS, TENSORRT
from tests.support.exported_models import (
    CONFIG,
    NUCLEI,
    RELEASED,
    exporter_of,
    quick_export,
    tiny_model,
    tiny_spec,
)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--int8"], 2, "needs calib_data"),
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
    trt_of(monkeypatch, "no_such_tensorrt")
    with pytest.raises(SystemExit) as caught:
        main(["export", "--model", "nuclei_dla_46c", "--format", "trt", "--half"])
    sentence = capsys.readouterr().err
    assert caught.value.code == 2 and "is not installed" in sentence and "choose the format trt-rtx" in sentence
    assert "--model nuclei_dla_46c --format trt --precision fp16" in sentence
    assert list(tmp_path.iterdir()) == []  # nothing else was built instead


def test_tensorrt_without_a_gpu_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    trt_of(monkeypatch, "json")  # a package that is there
    monkeypatch.setattr(refusals, "gpus", list)
    with pytest.raises(SystemExit) as caught:
        main(["export", "--model", "nuclei_dla_46c", "--format", "trt"])
    assert caught.value.code == 5 and "GPU 0 is not here" in capsys.readouterr().err


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The released weights, and an exporter that gives its file without doing the work again."""

    def exported(model, spec, path, options, *, source):
        wanted = "fp32" if options.precision == "int8" else options.precision
        return exporter_of(wanted)(model, spec, path, options, source=source)

    monkeypatch.setattr(from_weights, "export_onnx", exported)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.safetensors"
    shutil.copyfile(find_model(RELEASED), path)
    return path


@pytest.mark.slow
def test_an_engine_is_named_by_what_was_built_and_lies_beside_the_weights(weights, capsys):
    pytest.importorskip("tensorrt_rtx")
    main_ok("export", "--model", weights, "--imgsz", 128, "--format", "trt-rtx", "--half")
    names = ["mine.safetensors", "mine_fp16_128x128_rtx.engine", "mine_fp16_128x128_rtx.engine.json"]
    assert sorted(path.name for path in weights.parent.iterdir()) == names
    printed = capsys.readouterr().out
    assert "the engine itself was not run" in " ".join(printed.split()) and "fp16" in printed
    assert printed.splitlines()[-1].startswith(f"Next: centermask predict --model {weights.parent / names[1]} --source")


@pytest.mark.slow
def test_int8_is_calibrated_checked_and_measured(weights, capsys):
    main_ok(
        "export", "--model", weights, "--imgsz", 128, "--int8", "--calib-data", NUCLEI / "val", "--source",
        NUCLEI / "val", "--verify", NUCLEI, "--max-ap-drop", 0.05,
    )  # fmt: skip
    assert sorted(path.name for path in weights.parent.iterdir()) == ["mine.safetensors", "mine_int8_128x128.onnx"]
    printed = capsys.readouterr().out
    assert "AP of the weights" in printed and "on average" in printed


@pytest.mark.slow
def test_an_artefact_that_lost_ap_is_not_published(weights, monkeypatch, capsys):
    """The gate of AP, with a network that finds nothing in place of the artefact."""

    class Blind(Repeated):
        def run(self, images):
            outputs = super().run(images)
            return dataclasses.replace(outputs, scores=np.zeros_like(outputs.scores))

    monkeypatch.setattr(against_weights, "Repeated", Blind)
    with pytest.raises(SystemExit) as caught:
        main(["export", "--model", str(weights), "--imgsz", "128", "--verify", str(NUCLEI)])
    printed = capsys.readouterr()
    assert caught.value.code == 5 and "FAILED" in printed.out and "AP is 0.0000 where its source has" in printed.err
    assert [path.name for path in weights.parent.iterdir()] == ["mine.safetensors"]


@pytest.mark.slow
def test_an_export_that_differs_is_never_published(tmp_path, monkeypatch, capsys):
    """Through the command: exit code 5, the table in spite of it, and an older good file stays as it was."""
    weights, path = tmp_path / "tiny.safetensors", tmp_path / "tiny.onnx"
    save_weights(weights, tiny_model().state_dict(), tiny_spec(), CONFIG)
    monkeypatch.setattr(from_weights, "export_onnx", quick_export)
    path.write_bytes(b"the older good one")
    monkeypatch.setitem(outputs.TOLERANCES, "shapes", -1.0)
    with pytest.raises(SystemExit) as caught:
        main(["export", "--model", str(weights), "--output", str(path)])
    assert caught.value.code == 5
    printed = capsys.readouterr()
    assert "FAILED" in printed.out and "saliency" in printed.out
    assert printed.err.startswith("Error: ") and "shapes by" in printed.err
    assert path.read_bytes() == b"the older good one" and sorted(tmp_path.iterdir()) == [path, weights]


def trt_of(monkeypatch, library):
    """TensorRT under another package's name."""
    monkeypatch.setitem(
        FORMATS, "trt", dataclasses.replace(FORMATS["trt"], engine=dataclasses.replace(TENSORRT, library=library))
    )


def main_ok(*arguments: object) -> None:
    main([str(argument) for argument in arguments])

# SPDX-License-Identifier: Apache-2.0
"""`centermask compare`: its numbers, its pictures, its limits, and one sentence for wrong use."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import pytest

from centermask.cli import main
from centermask_runtime.networks.network import PeakOutputs
from tests.runtime.networks.test_onnx_runtime import tiny_graph
from tests.support.fixed_networks import WHITE, boxes_apart, changed


@pytest.fixture
def apart(small_outputs) -> PeakOutputs:
    return boxes_apart(small_outputs)


@pytest.fixture
def two_files(small_spec, apart, tmp_path):
    """The same graph twice, and one with scores that are 2 % lower."""
    for name, factor in (("a", 1.0), ("b", 1.0), ("c", 0.98)):
        outputs = changed(apart, scores=np.linspace(0.9, 0.4, 8, dtype=np.float32)[None] * np.float32(factor))
        onnx.save(tiny_graph(small_spec, outputs), tmp_path / f"{name}.onnx")
    cv2.imwrite(str(tmp_path / "white.png"), WHITE)
    return tmp_path


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    return code, *capsys.readouterr()


def test_the_command_prints_numbers_and_writes_pictures(two_files, capsys):
    a, b, source = two_files / "a.onnx", two_files / "b.onnx", two_files / "white.png"
    code, out, _ = run(capsys, "compare", a, b, "--source", source, "--output", two_files / "out", "--json")
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and found["ok"]
    assert (found["objects"], found["matched"], found["unmatched"], found["frames"]) == ([8, 8], 8, 0, 1)
    assert cv2.imread(str(two_files / "out" / "white.png")).shape[2] == 3
    code, out, _ = run(capsys, "compare", a, b, "--source", source)
    assert code == 0 and "8 objects in A, 8 in B, 8 in both, 0 in one only" in " ".join(out.split())


def test_a_limit_that_is_passed_ends_in_exit_code_5(two_files, capsys):
    arguments = "compare", two_files / "a.onnx", two_files / "c.onnx", "--source", two_files / "white.png"
    assert run(capsys, *arguments)[0] == 0  # no limit, no gate
    assert run(capsys, *arguments, "--max-score-diff", 0.02)[0] == 0
    code, out, err = run(capsys, *arguments, "--max-score-diff", 0.01, "--json")
    assert code == 5 and "scores by 0.018 (allowed 0.01)" in err
    assert json.loads(out)["failures"] == ["scores by 0.018 (allowed 0.01)"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("none.onnx", "a.onnx"), 4, "There is no model file"),
        (("a.onnx", "b.onnx", "--source", "nowhere"), 3, "no file or folder"),
        (("a.onnx", "b.onnx", "--source", "rtsp://camera"), 2, "record it"),
        (("a.onnx", "b.onnx", "--min-mask-iou", "2"), 2, "min-mask-iou"),
        (("a.onnx",), 2, "Missing argument"),
    ],
)
def test_wrong_use_is_one_sentence(two_files, capsys, monkeypatch, arguments, code, words):
    monkeypatch.chdir(two_files)
    given = arguments if "--source" in arguments else (*arguments, "--source", "white.png")
    found, _, err = run(capsys, "compare", *given)
    assert found == code and words in err and "Traceback" not in err

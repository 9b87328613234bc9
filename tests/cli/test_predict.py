# SPDX-License-Identifier: Apache-2.0
"""What predict is told in few words: sources without an option, and a model that nobody named."""

from __future__ import annotations

import json

import cv2
import pytest

from centermask import opening
from centermask.cli import main
from centermask.released import DEFAULT
from tests.support.exported_models import frames, tiny_onnx


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


def error_of(capsys, *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    return stopped.value.code, capsys.readouterr().err


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(2)]
    for path, picture in zip(paths, frames(2), strict=True):
        cv2.imwrite(str(path), picture)
    return paths


def results(folder):
    return json.loads((folder / "predictions.json").read_text())


@pytest.mark.slow
def test_a_path_alone_is_a_source(pictures, tmp_path):
    run("predict", pictures[0], "--model", tiny_onnx(), "--output", tmp_path / "one", "--no-save")
    run("predict", "--source", pictures[0], "--model", tiny_onnx(), "--output", tmp_path / "other", "--no-save")
    assert results(tmp_path / "one") == results(tmp_path / "other") and results(tmp_path / "one")["annotations"]


def test_several_paths_are_images(pictures, tmp_path):
    run("predict", *pictures, "--model", tiny_onnx(), "--output", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "predictions.json"]
    run("predict", pictures[0], "--source", pictures[1], "--model", tiny_onnx(), "--output", tmp_path / "both")
    assert results(tmp_path / "both") == results(tmp_path / "out")


def test_without_a_model_the_released_one_is_taken_and_named(pictures, tmp_path, capsys):
    run("predict", pictures[0], "--output", tmp_path / "out", "--no-save")
    assert f"No model was named, so the released model {DEFAULT} is taken." in capsys.readouterr().err
    assert results(tmp_path / "out")["categories"] == [{"id": 1, "name": "nucleus"}]


def test_a_source_that_is_not_there_is_refused_before_the_model_is_read(capsys, tmp_path, monkeypatch):
    def never(*arguments):
        raise AssertionError("the model was opened")

    monkeypatch.setattr(opening, "find_model", never)
    code, text = error_of(capsys, "predict", tmp_path / "missing.png", "--model", tiny_onnx())
    assert code == 3 and "There is no file or folder" in text


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "Name an image, a folder, a pattern or a video"),
        (["rtsp://camera/1"], 2, "is a stream's address"),
        (["PICTURE", "--device", "gpu"], 2, "There is no device 'gpu'"),
        (["PICTURE", "--conf", 2], 2, "conf must be a number between 0 and 1, not 2.0"),
        (["PICTURE", "--model", "nuclie"], 4, "did you mean 'nuclei'"),
        (["PICTURE", "--classes", "nucleus, 3"], 2, "no class number 3"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(capsys, pictures, tmp_path, arguments, code, sentence):
    given = [pictures[0] if argument == "PICTURE" else argument for argument in arguments]
    if "--model" not in given:
        given += ["--model", tiny_onnx()]
    found, text = error_of(capsys, "predict", *given, "--output", tmp_path / "out")
    assert found == code and sentence in text
    assert not (tmp_path / "out").exists()

# SPDX-License-Identifier: Apache-2.0
"""predict and val with tiles: what they write of large pictures, and the sentences for what makes no sense."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import tifffile

from centermask import evaluate
from centermask.cli import main
from centermask_runtime import CenterMask, tiff_windows
from tests.support.exported_models import frames, tiny_onnx
from tests.support.places import NUCLEI


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


def error_of(capsys, *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    return stopped.value.code, capsys.readouterr().err


@pytest.fixture(scope="module")
def mosaic() -> np.ndarray:
    return np.tile(frames(1)[0], (2, 2, 1))


def test_a_large_picture_in_tiles_is_drawn_and_its_objects_are_those_of_the_model_in_python(mosaic, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "large.png"), mosaic)
    given = ("--model", tiny_onnx(), "--tile", 160, "--overlap", 40, "--conf", 0.3)
    run("predict", tmp_path / "large.png", *given, "--output", tmp_path / "out")
    assert "tiles of 160 that share 40" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["large.png", "predictions.json"]
    with CenterMask(tiny_onnx(), tile=160, overlap=40, conf=0.3) as model:
        found = model(mosaic)
    written = json.loads((tmp_path / "out" / "predictions.json").read_text())["annotations"]
    assert [one["bbox"] for one in written] == [one["bbox"] for one in found.to_coco(1)] and len(found) > 10


def test_a_large_tiff_is_read_by_windows_and_gives_the_same_objects(mosaic, tmp_path, monkeypatch, capsys):
    tifffile.imwrite(tmp_path / "large.tif", mosaic[:, :, ::-1], photometric="rgb", tile=(64, 64))
    given = ("--model", tiny_onnx(), "--tile", 160, "--conf", 0.3)
    run("predict", tmp_path / "large.tif", *given, "--output", tmp_path / "whole", "--json")
    monkeypatch.setattr(tiff_windows, "LARGE", 1)
    run("predict", tmp_path / "large.tif", *given, "--output", tmp_path / "windows", "--json")
    whole, windows = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert whole["objects"] == windows["objects"] > 10 and windows["frames"] == 1
    of = [json.loads((tmp_path / name / "predictions.json").read_text()) for name in ("whole", "windows")]
    assert of[0]["images"] == of[1]["images"]
    masks = [sorted(one["segmentation"]["counts"] for one in content["annotations"]) for content in of]
    assert masks[0] == masks[1]
    assert (tmp_path / "windows" / "large.tif.png").is_file()


def test_a_damaged_large_tiff_is_one_sentence(mosaic, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tiff_windows, "LARGE", 1)
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, mosaic, photometric="rgb", tile=(64, 64))
    path.write_bytes(path.read_bytes()[:-1000])
    code, text = error_of(capsys, "predict", path, "--model", tiny_onnx(), "--tile", 160, "--output", tmp_path / "out")
    assert code == 3 and "is cut off" in text and "Traceback" not in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--tile", 160, "--overlap", 160), "overlap must be at most half the tile, 80 of 160 pixels, not 160"),
        (("--tile", 8), "tile must be a whole number from 32"),
        (("--overlap", 8), "An overlap of 8 was given, but no tile"),
        (("--tile", "half"), "half"),
    ],
)
@pytest.mark.parametrize("command", [("predict", "a.png"), ("val", "--data", "nuclei")])
def test_tiles_that_make_no_sense_are_refused_before_anything_is_read(command, words, sentence, capsys):
    code, text = error_of(capsys, *command, "--model", "model.onnx", *words)
    assert code == 2 and sentence in text


def test_val_in_tiles_larger_than_the_images_is_val_and_python_gives_the_same(capsys):
    given = ("val", "--model", tiny_onnx(), "--data", NUCLEI, "--json")
    run(*given)
    run(*given, "--tile", 4096)
    run(*given, "--tile", 100)
    whole, one_tile, tiles = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    # a tile's objects count from half the lowest score on, but those of one tile alone only from the score itself
    assert whole == one_tile != tiles
    assert evaluate(tiny_onnx(), NUCLEI, tile=100).metrics["segm"]["AP"] == pytest.approx(tiles["segm"]["AP"])

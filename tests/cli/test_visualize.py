# SPDX-License-Identifier: Apache-2.0
"""`visualize` and `val --plots` as people use them: pictures where they belong, one sentence for wrong options."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from centermask.cli import cli
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.evaluation.pictures import CAPTION_HEIGHT
from centermask.evaluation.results_file import read_results
from centermask_runtime.errors import CenterMaskError, DataError, UsageError
from tests.support.places import NUCLEI
from tests.support.shape_results import HW, results_of, write_three


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_three(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def found(folder) -> list[dict]:
    return results_of(folder)


def run(*arguments: object) -> str:
    done = CliRunner().invoke(cli, [str(one) for one in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def halves(picture: Path) -> tuple[np.ndarray, np.ndarray]:
    """The prediction and the ground truth, without their captions."""
    image = cv2.imread(str(picture))
    assert image.shape[0] == HW[0] + CAPTION_HEIGHT
    return image[CAPTION_HEIGHT:, : HW[1]], image[CAPTION_HEIGHT:, -HW[1] :]


@pytest.mark.parametrize("option", ["--data", "--dataset"])
def test_each_image_becomes_one_picture_of_both(folder, found, tmp_path, option):
    (tmp_path / "r.json").write_text(json.dumps(found))
    run("visualize", "--input", tmp_path / "r.json", "--output", tmp_path / "out", option, folder)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"{number:06d}.png" for number in (1, 2, 3)]
    for name in names:
        source = cv2.imread(str(folder / "val" / name))
        left, right = halves(tmp_path / "out" / name)
        assert (right != source).any() and (left != right).any()


def test_without_labels_all_results_are_drawn_as_the_ground_truth_is(folder, found, tmp_path):
    """At --conf 0: the same masks, in another order only where they overlap."""
    (tmp_path / "r.json").write_text(json.dumps([{**one, "score": 1.0} for one in found]))
    where = "--input", tmp_path / "r.json", "--data", folder, "--output", tmp_path / "out"
    run("visualize", *where, "--no-labels", "--conf", 0)
    for number in (1, 2, 3):
        left, right = halves(tmp_path / "out" / f"{number:06d}.png")
        np.testing.assert_array_equal(left, right)


def test_a_score_below_the_threshold_is_not_drawn(folder, found, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(found))
    where = "--input", tmp_path / "r.json", "--data", folder, "--output", tmp_path / "out"
    run("visualize", *where, "--conf", 1)
    for number in (1, 2, 3):
        left, _ = halves(tmp_path / "out" / f"{number:06d}.png")
        np.testing.assert_array_equal(left, cv2.imread(str(folder / "val" / f"{number:06d}.png")))


def test_wrong_options_are_one_sentence(folder, found, tmp_path):
    (tmp_path / "r.json").write_text(json.dumps(found))

    def error(kind: type[CenterMaskError], *arguments: object) -> str:
        words = [str(one) for one in ("visualize", "--input", tmp_path / "r.json", *arguments)]
        with pytest.raises(kind) as caught:
            CliRunner().invoke(cli, words, catch_exceptions=False, standalone_mode=False)
        return str(caught.value)

    with pytest.raises(DataError, match="There is no results file"):
        read_results(tmp_path / "no.json", load_dataset(find_split(folder, "val")))
    assert "holds the images themselves" in error(UsageError, "--data", folder, "--output", folder / "val")
    both = "--data", folder, "--dataset", folder
    assert "give one of them" in error(UsageError, *both, "--output", tmp_path / "out")
    (tmp_path / "r.json").write_text("{")
    assert "is not JSON" in error(DataError, "--data", folder, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_val_draws_them_from_the_command_line(tmp_path):
    nuclei = NUCLEI
    content = json.loads((nuclei / "annotations" / "instances_val.json").read_text())
    first = min(content["images"], key=lambda image: image["height"] * image["width"])
    content["images"] = [first]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] == first["id"]]
    (tmp_path / "one.json").write_text(json.dumps(content))
    arguments = "--annotations", tmp_path / "one.json", "--images", nuclei / "val", "--threads", 1
    said = run("val", "--model", "nuclei_dla_46c", *arguments, "--plots", tmp_path / "plots")
    assert "Best mask F1" in said and (tmp_path / "plots" / "confusion_matrix.png").is_file()

# SPDX-License-Identifier: Apache-2.0
"""The command `centermask doctor`: its exit codes and its report, the splits it examines, what it cannot examine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from centermask.cli import main
from tests.support.sound_data import Content, first_image, write_sound


@pytest.fixture
def sound(tmp_path) -> tuple[Path, Content]:
    return tmp_path, write_sound(tmp_path)


def run(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_the_exit_code_tells_errors_from_warnings(sound, capsys):
    folder, content = sound
    assert run("doctor", "--data", str(folder), "--strict") == 0
    assert "Nothing to find fault with" in capsys.readouterr().out
    content["annotations"].append({**content["annotations"][0], "id": 999})
    annotations = folder / "annotations" / "instances_train.json"
    annotations.write_text(json.dumps(content))
    assert run("doctor", "--data", str(folder)) == 0
    assert run("doctor", "--data", str(folder), "--strict") == 3
    assert run("doctor", "--data", str(folder), "--split", "val", "--strict") == 0
    capsys.readouterr()
    first_image(folder).unlink()
    assert run("doctor", "--data", str(folder), "--json") == 3
    report = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in report["findings"]] == ["missing-image", "duplicate-object"]
    assert (report["errors"], report["warnings"], report["hints"]) == (1, 1, 0)
    assert report["splits"]["train"]["images"] == 3
    assert run("doctor", "--annotations", str(annotations), "--images", str(folder / "train"), "--json") == 3


def test_trainval_repeats_its_parts_and_is_no_leakage_unless_named(sound, capsys):
    folder, content = sound
    shutil.copytree(folder / "train", folder / "trainval")
    (folder / "annotations" / "instances_trainval.json").write_text(json.dumps(content))
    assert run("doctor", "--data", str(folder), "--json") == 0
    assert set(json.loads(capsys.readouterr().out)["splits"]) == {"train", "val"}
    assert run("doctor", "--data", str(folder), "--split", "train", "--split", "trainval") == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "Name the data set by --data FOLDER"),
        (("--annotations", "a.json"), 2, "with --images"),
        (("--data", "nowhere"), 3, "There is no folder 'nowhere'"),
        (("--data", "."), 3, "No split 'val' of a data set"),
        (("--data", "sound", "--split", "test"), 3, "which has train, val"),
        (("--annotations", "a.json", "--images", "."), 3, "no annotation file"),
        (("--annotations", "a.json", "--images", ".", "--split", "val"), 2, "--split names parts of a --data folder"),
    ],
)
def test_what_cannot_be_examined_is_one_sentence(sound, arguments, code, says, capsys, monkeypatch, tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    (place / "sound").symlink_to(sound[0])
    assert run("doctor", *arguments) == code
    assert says in capsys.readouterr().err

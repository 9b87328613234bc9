# SPDX-License-Identifier: Apache-2.0
"""`centermask track` writes ids, trails and counts, and says what makes no sense before it opens a model."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest

from centermask import CenterMask, opening
from centermask.cli import main
from centermask_runtime.sinks.video import VideoWriter
from tests.support.exported_models import frames, tiny_onnx

REGIONS = """
zones: [{name: all, points: [[0, 0], [160, 0], [160, 120], [0, 120]], anchor: centre}]
lines: [{name: gate, points: [[80, 0], [80, 120]], anchor: centre, margin: 0}]
"""


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


def error_of(capsys, *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    return stopped.value.code, capsys.readouterr().err


@pytest.fixture
def clip(tmp_path):
    """Six frames of a picture that moves to the right."""
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, (120, 160), 10) as writer:
        for index in range(6):
            writer.write(np.ascontiguousarray(np.roll(frames(1)[0][:120, :160], 4 * index, 1)), index / 10)
    return path


@pytest.fixture
def regions(tmp_path):
    path = tmp_path / "regions.yaml"
    path.write_text(REGIONS)
    return path


def results(folder):
    return json.loads((folder / "predictions.json").read_text())["annotations"]


def test_a_video_gets_ids_trails_and_counts(clip, regions, tmp_path, capsys):
    out = tmp_path / "out"
    run("track", clip, "--model", tiny_onnx(), "--output", out, "--regions", regions, "--json", "--counts-every", 0)
    assert sorted(path.name for path in out.iterdir()) == ["clip.mp4", "counts.csv", "predictions.json"]
    summary = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    found = results(out)
    tracks = {one["track_id"] for one in found if "track_id" in one}
    assert summary["tracks"] == len(tracks) == max(tracks) > 0 and summary["objects"] == len(found)
    assert all("track_id" not in one for one in found if one["image_id"] == 1), "none is confirmed yet"
    rows = list(csv.DictReader((out / "counts.csv").open()))
    inside = {int(row["frame"]): int(row["inside"]) for row in rows if row["name"] == "all"}
    assert inside == {index: sum(one["image_id"] == index + 1 for one in found) for index in range(6)}


def test_python_and_the_command_track_alike(clip, regions, tmp_path):
    run("track", clip, "--model", tiny_onnx(), "--output", tmp_path / "command", "--regions", regions)
    with CenterMask(tiny_onnx()) as model:
        model.track(clip, regions=regions).save(tmp_path / "python")
        ids = [result.instances.ids.tolist() for result in model.track(clip)]
    assert results(tmp_path / "command") == results(tmp_path / "python")
    counts = [(tmp_path / name / "counts.csv").read_text() for name in ("command", "python")]
    assert counts[0] == counts[1]
    written = [one.get("track_id", -1) for one in results(tmp_path / "python")]
    assert [track for frame in ids for track in frame] == written


def test_images_are_the_frames_of_one_video(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(3):
        cv2.imwrite(str(tmp_path / "in" / f"{index}.png"), frames(1)[0])
    run("track", tmp_path / "in", "--model", tiny_onnx(), "--output", tmp_path / "out", "--no-save", "--fps", 2)
    found = results(tmp_path / "out")
    per_frame = [[one.get("track_id") for one in found if one["image_id"] == index] for index in (1, 2, 3)]
    assert set(per_frame[0]) == {None} and per_frame[1] == per_frame[2] and None not in per_frame[1]


def test_several_videos_are_tracked_and_counted_each_for_itself(clip, regions, tmp_path):
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes())
    run("track", clip, other, "--model", tiny_onnx(), "--output", tmp_path / "out", "--regions", regions)
    run("track", clip, "--model", tiny_onnx(), "--output", tmp_path / "one", "--regions", regions)
    alone, both = results(tmp_path / "one"), results(tmp_path / "out")
    ids = [one.get("track_id") for one in alone]
    most = max(number for number in ids if number is not None)
    assert [one.get("track_id") for one in both] == ids + [None if number is None else number + most for number in ids]
    rows = list(csv.DictReader((tmp_path / "out" / "counts.csv").open()))
    expected = list(csv.DictReader((tmp_path / "one" / "counts.csv").open()))
    for name in ("clip", "other"):
        own = [{**row, "source": "clip"} for row in rows if row["source"] == name]
        assert sorted(own, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ([], 2, "Name an image, a folder, a pattern or a video"),
        (["CLIP", "--gap", -1], 2, "gap must be a number between 0 and 3600, not -1.0."),
        (["CLIP", "--confirm", 0], 2, "confirm must be a whole number from 2 to 1000, not 0."),
        (["CLIP", "--fps", 0], 2, "fps must be a number between 0.001 and 10000, not 0.0."),
        (["CLIP", "--trail", -1], 2, "trail must be a number between 0 and 3600, not -1.0."),
        (["CLIP", "--regions", "none.yaml"], 2, "none.yaml cannot be read (No such file or directory)"),
        (
            ["CLIP", "--regions", "WIDE"],
            3,
            "The line 'gate' has points outside the frame of 160 x 120 pixels: (999, 0)",
        ),
    ],
)
def test_what_makes_no_sense_is_said_before_the_model_is_opened(
    capsys, clip, tmp_path, monkeypatch, arguments, code, sentence
):
    def never(*arguments):
        raise AssertionError("the model was opened")

    monkeypatch.setattr(opening, "find_model", never)
    (tmp_path / "wide.yaml").write_text("lines: [{name: gate, points: [[999, 0], [0, 9]]}]")
    places = {"CLIP": clip, "WIDE": tmp_path / "wide.yaml"}
    given = [places.get(argument, argument) for argument in arguments]
    found, text = error_of(capsys, "track", *given, "--model", tiny_onnx(), "--output", tmp_path / "out")
    assert (found, sentence in text) == (code, True), text
    assert not (tmp_path / "out").exists() and "Traceback" not in text


def test_a_class_that_the_model_has_not_is_one_sentence(capsys, clip, tmp_path):
    path = tmp_path / "regions.yaml"
    path.write_text("lines: [{name: gate, points: [[0, 0], [0, 9]], classes: [nucleos]}]")
    code, text = error_of(
        capsys, "track", clip, "--model", tiny_onnx(), "--regions", path, "--output", tmp_path / "out"
    )
    assert code == 3 and "counts the class 'nucleos', which the model has not; did you mean" in text
    assert not (tmp_path / "out").exists()

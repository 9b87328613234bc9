# SPDX-License-Identifier: Apache-2.0
"""What predict is told in few words: sources without an option, and a model that nobody named."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import cv2
import pytest

from centermask import opening
from centermask.cli import main
from centermask.released import DEFAULT
from centermask_runtime.sources.video import VideoSource
from tests.support.exported_models import frames, tiny_onnx
from tests.support.live_server import LiveServer
from tests.support.places import ROOT
from tests.support.processes import environment
from tests.support.small_pictures import write_video


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
        (["rtsp://127.0.0.1:9/1"], 3, "rtsp://127.0.0.1:9/1 cannot be opened as a video (Connection refused): check"),
        (["PICTURE", "rtsp://127.0.0.1:9/1"], 2, "is a stream and"),
        (["PICTURE", "--start", "1:2:3:4"], 2, "'1:2:3:4' is no time: write seconds, or 1:30, or 0:01:30."),
        (["PICTURE", "--start", "0:30", "--end", "20"], 2, "The end, 20 s, must come after the start, 30 s."),
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


def test_several_sources_of_all_kinds_have_an_output_each(pictures, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    pictures[1].rename(folder / "b.png")
    (folder / "notes.csv").write_text("1,2")
    write_video(folder / "clip.mp4", count=5)
    more = ("--vid-stride", 2, "--max-frames", 3)
    run("predict", pictures[0], "--source", folder, "--model", tiny_onnx(), "--output", tmp_path / "out", *more)
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")} == {
        "0.png", "in/b.png", "in/clip.mp4", "predictions.json",
    }  # fmt: skip
    found = [image["file_name"] for image in results(tmp_path / "out")["images"]]
    assert found == ["0.png", "in/b.png", "in/clip_000000", "in/clip_000002", "in/clip_000004"]
    assert "Left out 1 file, neither image nor video: notes.csv." in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_files_with_what_there_is(tmp_path, number, code):
    with LiveServer() as server:
        command = [sys.executable, "-m", "centermask", "predict", server.url, "--model", tiny_onnx()]
        process = subprocess.Popen(
            [*command, "--output", tmp_path / "out"], stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
        )
        end = time.monotonic() + 60
        while not list(tmp_path.glob("out/.*.mp4.*")):
            assert process.poll() is None and time.monotonic() < end, process.stderr.read()
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == code, said
    count = int(re.search(r"Stopped after (\d+) frames?; results in", said)[1])
    with VideoSource(tmp_path / "out" / "127.0.0.1_camera.mp4") as video:
        assert len(list(video)) == count > 0 and video.skipped == []
    assert len(results(tmp_path / "out")["images"]) == count
    assert re.search(r"127\.0\.0\.1_camera: \d+ frames, \d+ dropped, 0 damaged, 1 connection", said)


NOT_UTF_8 = os.fsdecode(b"\xff\xfe")  # as old archives and other machines name files


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="other file systems refuse such names")
def test_names_that_are_no_text_are_written_and_told(pictures, tmp_path):
    named = tmp_path / "in" / f"{NOT_UTF_8}[/b]\n.png".replace("/", "")
    named.parent.mkdir()
    pictures[0].rename(named)
    kinds = "coco,jsonl,csv,yolo,masks,crops,geojson"
    command = [sys.executable, "-m", "centermask", "predict", named, "--model", tiny_onnx(), "--results", kinds]
    done = subprocess.run(
        [*command, "--output", tmp_path / f"out{NOT_UTF_8}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert r"out\udcff\udcfe" in done.stdout and (tmp_path / f"out{NOT_UTF_8}" / named.name).exists()
    (tmp_path / f"out{NOT_UTF_8}" / "predictions.csv").read_text("utf-8")


@pytest.mark.process
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a file that is always full")
@pytest.mark.parametrize("output", ["-", "out"])
def test_a_standard_output_that_is_full_is_one_sentence(pictures, tmp_path, output):
    output = output if output == "-" else tmp_path / output
    command = [sys.executable, "-m", "centermask", "predict", pictures[0], "--model", tiny_onnx(), "--output", output]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment())
    sentence = "Error: The standard output cannot be written on (No space left on device)"
    assert done.returncode == 1 and done.stderr.count(sentence) == 1
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert output == "-" or results(output)["annotations"]


@pytest.mark.process
def test_a_standard_output_that_is_closed_is_one_sentence(pictures):
    command = [sys.executable, "-m", "centermask", "predict", str(pictures[0]), "--model", str(tiny_onnx()), "--output"]
    shell = f"exec {shlex.join([*command, '-'])} >&-"
    done = subprocess.run(["sh", "-c", shell], stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment())
    assert done.returncode == 2 and "Error: The standard output is closed" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_without_a_name_is_refused(pictures, capsys):
    code, text = error_of(capsys, "predict", pictures[0], "--model", tiny_onnx(), "--output", "")
    assert code == 2 and "--output is empty text: name a folder" in text

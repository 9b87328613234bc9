# SPDX-License-Identifier: Apache-2.0
"""Where predict's results go: kinds, the standard output, jobs that go on, and two runs that want one folder."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import cv2
import pytest
from pycocotools.coco import COCO

from centermask.cli import main
from centermask_runtime.sinks.output_folder import OutputFolder
from tests.support.exported_models import frames, tiny_onnx
from tests.support.small_pictures import names_in
from tests.support.sounding_videos import streams_of, write_sounding


def run(*arguments):
    main(["predict", *map(str, arguments), "--model", str(tiny_onnx())])


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.splitlines()[-1]


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "in").mkdir()
    for index, picture in enumerate(frames(4)):
        cv2.imwrite(str(tmp_path / "in" / f"{index}.png"), picture)
    return tmp_path / "in"


def test_every_kind_of_results_tells_of_the_same_objects(pictures, tmp_path):
    out = tmp_path / "out"
    run(pictures, "--output", out, "--no-save", "--results", "coco, jsonl,csv,yolo,masks,crops,geojson")
    kinds = ["crops", "labels", "masks", "polygons", "predictions.csv", "predictions.json", "predictions.jsonl"]
    assert names_in(out) == kinds
    coco = COCO(str(out / "predictions.json"))
    assert len(coco.anns) > 0
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 4 and len(rows) == sum(len(line["instances"]) for line in lines) == len(coco.anns)
    for number, image in enumerate(coco.loadImgs(coco.getImgIds())):
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        stem = image["file_name"].removesuffix(".png")
        full = [one for one in annotations if one["area"]]
        assert len((out / "labels" / f"{stem}.txt").read_text().splitlines()) == len(full)
        assert len(json.loads((out / "polygons" / f"{stem}.geojson").read_text())["features"]) == len(full)
        assert len(list((out / "crops").glob(f"*/{stem}_*.png"))) == len(full)
        labels = cv2.imread(str(out / "masks" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        union = sum(coco.annToMask(one) for one in annotations) > 0
        assert ((labels > 0) == union).all()
        assert [entry["rle"] for entry in lines[number]["instances"]] == [one["segmentation"] for one in annotations]


def test_the_standard_output_has_the_rows_and_nothing_else(pictures, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run(pictures, "--output", "-", "--results", "csv")
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out)))
    assert rows and {row["frame"] for row in rows} <= set(names_in(pictures)) and "standard output" in err
    run(pictures, "--output", "-")
    assert [json.loads(line)["frame"] for line in capsys.readouterr().out.splitlines()] == names_in(pictures)
    assert names_in(tmp_path) == ["in"]


@pytest.mark.process
def test_a_reader_that_has_enough_ends_the_run_without_a_word(pictures):
    command = [sys.executable, "-m", "centermask", "predict", pictures, "--model", tiny_onnx(), "--output", "-"]
    reads_nothing = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)
    reads_nothing.wait()
    done = subprocess.run(list(map(str, command)), stdout=reads_nothing.stdin, stderr=subprocess.PIPE, text=True)
    reads_nothing.stdin.close()
    assert done.returncode == 1 and "Error" not in done.stderr and "Traceback" not in done.stderr


def test_a_job_goes_on_where_it_was_and_ends_as_one_that_was_never_stopped(pictures, tmp_path, capsys):
    options = ("--results", "coco,csv,yolo")
    run(pictures, "--output", tmp_path / "whole", *options)
    late = [pictures / f"{index}.png" for index in (2, 3)]
    contents = [path.read_bytes() for path in late]
    for path in late:
        path.unlink()
    run(pictures, "--output", tmp_path / "job", *options, "--skip-done")
    for path, content in zip(late, contents, strict=True):
        path.write_bytes(content)
    (tmp_path / "job" / "0.png").unlink()
    capsys.readouterr()
    run(pictures, "--output", tmp_path / "job", *options, "--skip-done")
    assert "in 2 frames" in (said := capsys.readouterr().out) and "2 frames were done before" in said
    assert not (tmp_path / "job" / "0.png").exists()  # so it was not done again
    for name in ("predictions.json", "predictions.csv", "labels/3.txt", "3.png"):
        assert (tmp_path / "job" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert "conf nothing, and now it is 0.9" in error_of(
        capsys, pictures, "--output", tmp_path / "job", *options, "--skip-done", "--conf", 0.9
    )
    assert "results coco,csv,yolo, and now it is" in error_of(
        capsys, pictures, "--output", tmp_path / "job", "--skip-done"
    )


def test_a_video_that_is_done_is_not_done_again(tmp_path, capsys):
    path = write_sounding(tmp_path / "v.mp4", range(0, 400, 100), sound_s=0.4)
    run(path, "--output", tmp_path / "out", "--skip-done", "--codec", "vp9")
    assert streams_of(tmp_path / "out" / "v.mp4") == [("video", "vp9"), ("audio", "aac")]
    written = (tmp_path / "out" / "v.mp4").stat().st_mtime_ns
    run(path, "--output", tmp_path / "out", "--skip-done", "--codec", "vp9")
    assert "All was done before" in capsys.readouterr().err
    assert (tmp_path / "out" / "v.mp4").stat().st_mtime_ns == written


def test_a_folder_that_another_run_writes_into_is_refused(pictures, tmp_path, capsys):
    with OutputFolder(tmp_path / "out"):
        assert "Another run writes into" in error_of(capsys, pictures, "--output", tmp_path / "out")
        assert "Another run writes into" in error_of(capsys, pictures, "--output", tmp_path / "out", "--skip-done")
    run(pictures, "--output", tmp_path / "out", "--no-save")
    assert names_in(tmp_path / "out") == ["predictions.json"]


def test_runs_without_an_output_have_folders_of_their_own(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        run(pictures / "0.png", "--no-save")
    assert names_in(tmp_path / "runs") == ["predict", "predict2"]


def test_frames_are_shown_on_a_page_where_there_is_no_display(pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    run(pictures, "--output", tmp_path / "out", "--no-save", "--results", "none", "--show")
    assert "Frames are shown in http://127.0.0.1:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--results", "yaml"), "There are no results of the kind 'yaml'; known are"),
        (("--results", "jsnl"), "did you mean 'jsonl'?"),
        (("--output", "-", "--results", "coco"), "takes one kind of --results, jsonl or csv, not coco"),
        (("--output", "-", "--results", "csv,jsonl"), "takes one kind"),
        (("--output", "-", "--json"), "--output - and --json both print"),
        (("--output", "-", "--skip-done"), "name a folder"),
        (("--skip-done",), "--skip-done needs --output"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(pictures, capsys, options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sentence in error_of(capsys, pictures, *options)
    assert names_in(tmp_path) == ["in"]

# SPDX-License-Identifier: Apache-2.0
"""The commands as people use them: their files, their exit codes, and one sentence when something is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO

from centermask.cli import main
from centermask.config import parse_config
from centermask.model.network import build_model
from centermask.model.weights import save_weights, spec_of
from tests.support.exported_models import tiny_onnx
from tests.support.places import NUCLEI, ROOT
from tests.support.processes import environment

TINY = """
name: tiny
model: {backbone: dla_46c, head_channels: 16, shape_size: 8, saliency: class_agnostic, max_detections: 20}
input: {size: [128, 128]}
train: {epochs: 2, batch: 2, lr: 1e-3, warmup_steps: 1, workers: 0, precision: 32-true, schedule: cosine}
"""


@pytest.fixture
def run(capsys, monkeypatch) -> Callable[..., str]:
    """Runs a command in this process that must succeed; what it prints on stdout."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_to_its_end(*arguments: object) -> str:
        main([*map(str, arguments)])
        return capsys.readouterr().out

    return run_to_its_end


@pytest.fixture
def error_of(capsys, monkeypatch) -> Callable[..., str]:
    """Runs a command in this process that must fail with `code`; its one sentence."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_to_its_error(*arguments: object, code: int) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([*map(str, arguments)])
        stderr = capsys.readouterr().err
        assert stopped.value.code == code, stderr
        sentences = [line for line in stderr.splitlines() if line.startswith("Error: ")]
        assert len(sentences) == 1, stderr
        return sentences[0]

    return run_to_its_error


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """An untrained model with boxes of about five cells: what it finds is noise, but it is drawn and written."""
    config = parse_config(TINY, "test")
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    torch.manual_seed(0)
    model = build_model(config, 1)
    torch.nn.init.constant_(model.size[2].bias, 5.0)
    spec = dataclasses.replace(spec_of(config, ("nucleus",), (1,)), mask_threshold=0.2)
    save_weights(path, model.state_dict(), spec, config)
    return path


@pytest.fixture(scope="session")
def export_json(weights) -> dict[str, Any]:
    """What export --json says of the ONNX file that it writes beside the weights."""
    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        main(["export", "--model", str(weights), "--output", str(weights.with_suffix(".onnx")), "--json"])
    return json.loads(stdout.getvalue())


@pytest.fixture(scope="session")
def onnx_model() -> Path:
    return tiny_onnx()


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """12 frames of a real microscopy image sliding by, 160 x 120."""
    path = tmp_path_factory.mktemp("clip") / "slide.mp4"
    image = cv2.imread(str(ROOT / "samples" / "images" / "fluorescence.png"))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for step in range(12):
            frame = np.ascontiguousarray(image[50:170, 10 * step : 10 * step + 160])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode())
    return path


@pytest.mark.process
def test_predict_with_an_onnx_file_needs_no_torch(onnx_model, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('torch must not be imported')")
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join((str(tmp_path), env["PYTHONPATH"]))
    command = [sys.executable, "-m", "centermask", "predict", "--model", str(onnx_model)]
    image = ROOT / "samples" / "images" / "tissue.png"
    subprocess.run([*command, "--source", str(image), "--output", str(tmp_path / "out")], check=True, env=env)


def test_predict_on_a_folder_draws_every_image_and_writes_coco_json(onnx_model, tmp_path, run):
    done = run(
        "predict", "--model", onnx_model, "--source", NUCLEI / "val", "--output", tmp_path, "--conf", 0.01, "--json"
    )
    summary = json.loads(done.splitlines()[-1])
    names = sorted(path.name for path in (NUCLEI / "val").iterdir())
    results = COCO(str(tmp_path / "predictions.json"))
    assert sorted(image["file_name"] for image in results.dataset["images"]) == names
    assert summary["frames"] == len(names)
    assert summary["objects"] == len(results.dataset["annotations"]) > 0
    for annotation in results.dataset["annotations"][:20]:
        assert results.annToMask(annotation).sum() == annotation["area"]
    for name in names:
        source, drawn = cv2.imread(str(NUCLEI / "val" / name)), cv2.imread(str(tmp_path / name))
        assert drawn.shape == source.shape and (drawn != source).any()


def test_predict_on_a_video_keeps_its_frames_and_size(onnx_model, clip, tmp_path, run):
    run("predict", "--model", onnx_model, "--source", clip, "--output", tmp_path, "--conf", 0.01)
    with av.open(str(tmp_path / "slide.mp4")) as container:
        frames = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(frames) == 12 and frames[0].shape == (120, 160, 3)
    assert len(COCO(str(tmp_path / "predictions.json")).dataset["images"]) == 12


def test_a_bad_file_in_a_folder_does_not_stop_the_rest(onnx_model, tmp_path, error_of):
    folder = tmp_path / "in"
    shutil.copytree(NUCLEI / "val", folder)
    (folder / "aaa.png").write_bytes((folder / "f6863b83d75e5927.png").read_bytes()[:300])
    command = "predict", "--model", onnx_model, "--source", folder, "--output", tmp_path / "out"
    assert "aaa.png is not an image" in error_of(*command, code=3)
    assert len(COCO(str(tmp_path / "out" / "predictions.json")).dataset["images"]) == 7
    (folder / "bbb.png").write_text("not an image")
    assert "2 of 9 inputs could not be read" in error_of(*command, code=3)


def test_a_folder_of_bad_images_alone_leaves_no_output(onnx_model, tmp_path, error_of):
    folder = tmp_path / "in"
    folder.mkdir()
    command = "predict", "--model", onnx_model, "--source", folder, "--output", tmp_path / "out"
    (folder / "a.png").write_text("not an image")
    assert "a.png is not an image" in error_of(*command, code=3)
    (folder / "b.png").write_text("not an image")
    assert "None of the 2 images" in error_of(*command, code=3)
    assert not (tmp_path / "out").exists()


def test_predict_does_not_overwrite_its_own_source(onnx_model, clip, tmp_path, error_of):
    image = tmp_path / "a.png"
    shutil.copy(ROOT / "samples" / "images" / "tissue.png", image)
    shutil.copy(clip, tmp_path / "slide.mp4")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for source, target in ((image, image), (tmp_path, image), (tmp_path / "slide.mp4", tmp_path / "slide.mp4")):
        sentence = error_of("predict", "--model", onnx_model, "--source", source, "--output", tmp_path, code=2)
        assert sentence == f"Error: {target} is the source itself; choose another output."
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_images_of_one_name_and_two_kinds_give_two_pictures(onnx_model, tmp_path, run):
    image = cv2.imread(str(ROOT / "samples" / "images" / "tissue.png"))[:64, :64]
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.bmp"):
        cv2.imwrite(str(tmp_path / "in" / name), image)
    run("predict", "--model", onnx_model, "--source", tmp_path / "in", "--output", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "a.bmp.png", "predictions.json"}


@pytest.mark.process
def test_the_benchmark_script_is_the_command(onnx_model):
    command = [sys.executable, str(ROOT / "benchmarks" / "fps.py"), "--model", str(onnx_model), "--source", "gone.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment())
    assert done.returncode == 3 and done.stderr.startswith("Error: gone.mp4") and "Traceback" not in done.stderr


@pytest.mark.slow
def test_export_reports_the_parity_of_the_artefact(export_json):
    assert export_json["ok"] and export_json["images"] == 2 and export_json["matched"] > 0
    assert {output["name"] for output in export_json["outputs"]} == {"scores", "boxes", "shapes", "saliency"}


@pytest.mark.slow
def test_weights_and_their_export_have_the_same_ap(weights, export_json, run):
    metrics = [
        json.loads(run("val", "--model", model, "--data", NUCLEI, "--json").splitlines()[-1])
        for model in (weights, export_json["output"])
    ]
    assert metrics[0]["segm"]["AP"] == pytest.approx(metrics[1]["segm"]["AP"], abs=1e-3)


def test_benchmark_prints_one_json_line_last(onnx_model, clip, run):
    done = run("benchmark", "--model", onnx_model, "--source", clip, "--warmup", 2, "--frames", 5, "--json")
    report = json.loads(done.splitlines()[-1])
    assert report["frames"] == 5 and report["frame_hw"] == [120, 160]
    assert [stage["stage"] for stage in report["stages"]] == ["preprocess", "network", "postprocess", "total"]
    assert report["reported_on"] == "a GPU we could not establish"
    assert report["ratio_to_reported"] == pytest.approx(report["fps"] / 25.2, abs=1e-3)


@pytest.mark.slow
def test_train_writes_a_run_that_val_accepts(tmp_path, run):
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    command = "train", "--config", config, "--data", NUCLEI, "--output", tmp_path, "--epochs", 1, "--quiet"
    shown = run(*command, "--no-plots")
    folder = tmp_path / "tiny"
    assert shown.splitlines()[-1] == str(folder / "weights" / "best.safetensors") and "epoch" not in shown
    assert {path.name for path in folder.iterdir()} == {
        "args.yaml", "data.json", "results.csv", "checkpoint.pt", "weights",
    }  # fmt: skip
    run("val", "--model", folder / "weights" / "best.safetensors", "--data", NUCLEI)


@pytest.mark.slow
def test_a_training_that_found_nothing_says_so_and_fails_unless_it_was_a_trial(tmp_path, run, error_of):
    """Its files are all there."""
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    command = "train", "--config", config, "--data", NUCLEI, "--no-plots", "--lr", 1e-12, "--set", "train.val_every=999"
    sentence = error_of(*command, "--output", tmp_path, "--steps", 100, code=4)
    assert "The best weights find nothing in" in sentence and "after 100 steps: start from other weights" in sentence
    assert (tmp_path / "tiny" / "weights" / "best.safetensors").exists()
    shown = run(*command, "--output", tmp_path, "--steps", 3)
    assert "find nothing in" in shown.splitlines()[-1]


def test_a_failed_start_of_a_training_leaves_no_folder(tmp_path, error_of):
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    command = "train", "--config", config, "--data", NUCLEI, "--output", tmp_path / "runs", "--quiet"
    assert "cells of the heat map" in error_of(*command, "--imgsz", 32, "--set", "model.max_detections=100", code=2)
    assert not (tmp_path / "runs").exists()


def test_a_damaged_image_in_a_worker_is_one_sentence(tmp_path, error_of):
    shutil.copytree(NUCLEI, tmp_path / "data")
    for image in (tmp_path / "data" / "train").glob("*.png"):
        image.write_bytes(image.read_bytes()[:300])
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    command = "train", "--config", config, "--data", tmp_path / "data", "--output", tmp_path, "--quiet"
    assert ".png" in error_of(*command, "--workers", 1, code=3)


@pytest.mark.process
@pytest.mark.slow
def test_ctrl_c_in_training_is_answered_saves_and_names_the_command_that_goes_on(tmp_path):
    """In a terminal of 80 columns, where the bar, the count and the time left must be seen."""
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    command = [sys.executable, "-m", "centermask", "train", "--config", str(config), "--data", str(NUCLEI)]
    options = ["--output", str(tmp_path), "--epochs=500", "--no-plots", "--workers=1", "--set", "train.val_every=500"]
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    env = {**environment(), "TERM": "xterm"}
    del env["COLUMNS"]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, env=env, stdin=inside, stdout=inside, stderr=inside, start_new_session=True
    )
    os.close(inside)
    checkpoint, written, asked = tmp_path / "tiny" / "checkpoint.pt", b"", False
    while process.poll() is None or select.select([terminal], [], [], 0)[0]:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                written += os.read(terminal, 1 << 16)
            except OSError:  # the process has closed its side
                break
        if not asked and checkpoint.exists():
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the worker gets it too
            asked = True
    os.close(terminal)
    assert process.wait(timeout=60) == 130, written
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())
    bars = [line for line in re.split(r"[\r\n]+", text) if line.startswith("epoch ") and "━" in line]
    assert bars and all(len(line) <= 80 for line in bars)
    assert re.match(r"epoch \d+ [━╸╺]+ +\d+/500 [\d:-]+ loss [\d.]+ [\d.]+ img/s mask [\d.]+ ", bars[-1]), bars[-1]
    assert text.index("Stopping after this step") < text.index("Stopped after step")
    assert f"--resume {tmp_path / 'tiny'}" in text.replace("\r\n", "") and "Traceback" not in text
    assert not list((tmp_path / "tiny").rglob("*.partial"))


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["predict", "--model", "MODEL", "--source", "nowhere.png"], 3, "nowhere.png"),
        (["predict", "--model", "MODEL", "--source", "cut.mp4"], 3, "cut.mp4"),
        (["predict", "--model", "MODEL", "--source", "text.png"], 3, "text.png"),
        (["predict", "--model", "MODEL", "--source", "SAMPLE", "--output", "file"], 2, "cannot be written"),
        (["predict", "--model", "MODEL", "--source", "SAMPLE", "--classes", "nuclues"], 2, "did you mean 'nucleus'"),
        (["predict", "--model", "MODEL", "--source", "SAMPLE", "--conf", "2"], 2, "between 0 and 1"),
        (["predict", "--model", "gone.onnx", "--source", "SAMPLE"], 4, "gone.onnx"),
        (["predict", "--model", "nuclei_dla_46", "--source", "SAMPLE"], 4, "nuclei_dla_46"),
        (["predict", "--model", "foreign.onnx", "--source", "SAMPLE"], 4, "foreign.onnx"),
        (["predict", "--model", "text.safetensors", "--source", "SAMPLE"], 4, "text.safetensors"),
        (["val", "--model", "MODEL"], 2, "--data"),
        (["predict", "--model", "MODEL", "--source", "rtsp://127.0.0.1:1/x"], 3, "rtsp://127.0.0.1:1/x cannot be"),
        (["val", "--model", "MODEL", "--data", "nowhere"], 3, "There is no folder 'nowhere'"),
        (["val", "--model", "MODEL", "--data", "NUCLEI", "--save-json", "file/x.json"], 2, "cannot be written"),
        (["val", "--model", "MODEL", "--annotations", "text.json", "--images", "."], 3, "text.json"),
        (["val", "--model", "MODEL", "--data", "NUCLEI", "--images", "."], 2, "--images . goes with --annotations"),
        (["export", "--model", "MODEL"], 4, "exported already"),
        (["train", "--data", "nowhere"], 2, "--config"),
        (["train", "--config", "CONFIG", "--data", "nowhere"], 3, "nowhere"),
        (["train", "--config", "CONFIG", "--data", "nowhere", "--set", "train.epoch=3"], 2, "did you mean 'epochs'"),
        (["train", "--config", "CONFIG", "--data", "nowhere", "--imgsz", "500"], 2, "multiples of 32"),
        (
            ["train", "--config", "CONFIG", "--annotations", "a.json", "--images", "a"],
            2,
            "needs --val-annotations",
        ),
        (["train", "--config", "CONFIG", "--data", "NUCLEI", "--val-annotations", "a.json"], 2, "--data"),
        (["train", "--config", "CONFIG", "--data", "NUCLEI", "--weights", "gone.pth"], 4, "no weights file gone.pth"),
        (["train", "--resume", "."], 3, "data.json"),
        (["train", "--resume", ".", "--device", "cpu", "--quiet"], 3, "data.json"),
        (["train", "--resume", ".", "--epochs", "300"], 2, "leave the other options out"),
        (["train", "--resume", ".", "--output", "runs/train"], 2, "leave the other options out"),
    ],
)
def test_bad_input_gives_one_sentence_and_its_exit_code(
    arguments, code, sentence, onnx_model, tmp_path, error_of, monkeypatch
):
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "text.json").write_text("not JSON")
    (tmp_path / "text.safetensors").write_text("not tensors")
    (tmp_path / "foreign.onnx").write_bytes(b"not a graph")
    (tmp_path / "cut.mp4").write_bytes((ROOT / "samples" / "nuclei_scan.mp4").read_bytes()[:4000])
    (tmp_path / "file").write_text("in the way of an output folder")
    (tmp_path / "config.yaml").write_text(TINY)
    places = {
        "MODEL": onnx_model,
        "SAMPLE": ROOT / "samples" / "images" / "tissue.png",
        "CONFIG": tmp_path / "config.yaml",
        "NUCLEI": NUCLEI,
    }
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    message = error_of(*(places.get(argument, argument) for argument in arguments), code=code)
    assert sentence in message
    assert sorted(tmp_path.rglob("*")) == before, "a failed command left something behind"


@pytest.mark.process
def test_mistakes_in_the_options_of_train_are_found_before_torch_is_imported(tmp_path):
    (tmp_path / "config.yaml").write_text(TINY)
    lines = [
        "train",
        "train --config nowhere",
        "train --config config.yaml",
        "train --config config.yaml --data nowhere",
        "train --config config.yaml --data nowhere --set train.epoch=3",
        "train --config config.yaml --data nowhere --weights gone.pth",
        "train --config config.yaml --data nowhere --batch 0",
        "train --num-gpus 2 --device cpu",
        "train --resume . --epochs 3",
        "train --fancy",
    ]
    code = f"""
import sys
from centermask.cli import main
for line in {lines!r}:
    try:
        main(line.split())
    except SystemExit as stopped:
        print(line, stopped.code)
assert "torch" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True
    )
    assert [line.rsplit(maxsplit=1)[0] for line in done.stdout.splitlines()] == lines
    assert all(line.endswith((" 2", " 3", " 4")) for line in done.stdout.splitlines())

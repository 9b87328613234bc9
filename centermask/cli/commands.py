# SPDX-License-Identifier: Apache-2.0
"""The table of all commands: where each lives, what it is for in one line, and how it is called.

A new command is a file of its name with the command in it, and a row here.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """What is known of a command before its module is imported."""

    module: str  # holds the command, under the command's name
    help: str  # the first sentence of the command's docstring, without the full stop; it fits a terminal of 80 columns
    examples: tuple[str, ...]  # two or three lines that end the command's own --help


COMMANDS = {  # in the order in which they are listed
    "train": Row(
        "centermask.cli.train",
        "Train a model on a data set",
        (
            "centermask train --config dla_46c --data my_data",
            "centermask train --config dla_34 --data coco --num-gpus 8",
            "centermask train --resume runs/train/dla_46c",
        ),
    ),
    "val": Row(
        "centermask.cli.val",
        "Measure the box and mask AP of a model on a data set",
        (
            "centermask val --model best.safetensors --data my_data",
            "centermask val --model best.onnx --data my_data --split test --plots curves",
        ),
    ),
    "predict": Row(
        "centermask.cli.predict",
        "Find the objects in images, videos or streams, and draw them",
        (
            "centermask predict samples/images",
            "centermask predict clip.mp4 --model best.onnx --conf 0.3",
            "centermask predict images/ --model best.onnx --no-save --json",
        ),
    ),
    "track": Row(
        "centermask.cli.track",
        "Follow the objects of a video, and count them in zones",
        (
            "centermask track clip.mp4 --model best.onnx",
            "centermask track clip.mp4 --model best.onnx --regions street.yaml --gap 3",
        ),
    ),
    "export": Row(
        "centermask.cli.export",
        "Export a model to ONNX, OpenVINO, TensorRT and more",
        (
            "centermask export --model best.safetensors",
            "centermask export --model best.safetensors --half --format trt-rtx",
            "centermask export --model best.safetensors --int8 --calib-data train/",
        ),
    ),
    "formats": Row(
        "centermask.cli.formats",
        "List the export formats, and which can be written here",
        ("centermask formats", "centermask formats --json"),
    ),
    "compare": Row(
        "centermask.cli.compare",
        "Compare two artefacts, such as weights and their ONNX file",
        (
            "centermask compare best.safetensors best.onnx --source images/",
            "centermask compare best.onnx best.xml --source clip.mp4 --output pictures",
        ),
    ),
    "benchmark": Row(
        "centermask.cli.benchmark",
        "Measure the FPS and stage times of a model on a video",
        (
            "centermask benchmark --model best.onnx --source clip.mp4",
            "centermask benchmark --model best.engine --source clip.mp4 --frames 500",
        ),
    ),
    "visualize": Row(
        "centermask.cli.visualize",
        "Draw results beside the ground truth",
        (
            "centermask visualize --input results.json --data my_data --output drawn",
            "centermask visualize --input results.json --data coco --output out --conf 0",
        ),
    ),
    "datasets": Row(
        "centermask.cli.datasets",
        "List the data sets in a folder",
        ("centermask datasets", "centermask datasets /data --json"),
    ),
    "doctor": Row(
        "centermask.cli.doctor",
        "Find the mistakes in a data set",
        (
            "centermask doctor --data my_data",
            "centermask doctor --annotations train.json --images train/ --strict",
        ),
    ),
    "download": Row(
        "centermask.cli.download",
        "Download COCO 2017, VOC 2012 or SBD",
        ("centermask download voc", "centermask download coco --split val --output /data/coco"),
    ),
    "model": Row(
        "centermask.cli.model",
        "Show the parameters and GFLOP of a config, part by part",
        (
            "centermask model dla_34",
            "centermask model dla_46c --imgsz 320 --classes 1",
        ),
    ),
    "checks": Row(
        "centermask.cli.checks",
        "Show the versions, extras and GPU of this machine",
        ("centermask checks", "centermask checks --json"),
    ),
    "demo": Row(
        "centermask.cli.demo",
        "Take the released models all the way on the sample pictures",
        ("centermask demo", "centermask demo --output nuclei"),
    ),
}

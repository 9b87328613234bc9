# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and what they mean: data sets and models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from centermask import released
from centermask.cli.completion import complete_model
from centermask_runtime.device import AUTO
from centermask_runtime.errors import UsageError
from centermask_runtime.packages import need

if TYPE_CHECKING:
    from centermask.data.dataset import Dataset

Command = Callable[..., Any]


MODEL_HELP = "Weights (.safetensors), an exported .onnx, .xml, .torchscript or .engine file, or a released model's name"


def model_option(command: Command) -> Command:
    return click.option("--model", required=True, help=f"{MODEL_HELP}.", shell_complete=complete_model)(command)


def default_model_option(command: Command) -> Command:
    """For model_or_default."""
    text = f"{MODEL_HELP} (default: {released.DEFAULT})."
    return click.option("--model", help=text, shell_complete=complete_model)(command)


def model_or_default(model: str | None) -> str:
    """The model that was named; else the released one that is the default, which is told."""
    if model is not None:
        return model
    click.echo(f"No model was named, so the released model {released.DEFAULT} is taken.", err=True)
    return released.DEFAULT


def device_options(command: Command) -> Command:
    for option in (
        click.option(
            "--cuda-driver", default=AUTO, show_default=True, metavar="PROVIDER",
            help="Of .onnx files and engines on a GPU: auto, cuda-bindings or pycuda.",
        ),
        click.option(
            "--device", default=AUTO, show_default=True, metavar="DEVICE",
            help="auto, cpu, cuda, or the number of a GPU, as cuda:1 or 1.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def tile_options(command: Command) -> Command:
    for option in (
        click.option(
            "--overlap", type=int, metavar="PIXELS", help="Least that neighbouring tiles share (default: tile / 8)."
        ),
        click.option(
            "--tile", type=int, metavar="PIXELS", help="See larger images in tiles of this side, and join the objects."
        ),
    ):
        command = option(command)
    return command


def threads_option(command: Command) -> Command:
    return click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the network (default: all).")(
        command
    )


def data_options(command: Command) -> Command:
    for option in (
        click.option("--images", type=click.Path(path_type=Path), help="With --annotations: the folder of its images."),
        click.option("--annotations", type=click.Path(path_type=Path), help="A COCO JSON file, instead of --data."),
        click.option("--split", default="val", show_default=True, help="Part of the data set."),
        click.option("--data", type=click.Path(path_type=Path), help="A data set: folder, YOLO data.yaml, or name."),
    ):
        command = option(command)
    return command


def open_dataset(data: Path | None, split: str, annotations: Path | None, images: Path | None) -> Dataset:
    """The data set that --data and --split, or --annotations and --images, name."""
    need("pycocotools", "train", "reading data sets")
    from centermask.data.dataset import load_dataset  # these need pycocotools, an extra
    from centermask.data.formats.layouts import Split, find_dataset, find_split

    if (data is None) == (annotations is None):
        raise UsageError("Name the data set by --data FOLDER, or by --annotations FILE with --images FOLDER.")
    if data is not None:
        if images is not None:
            raise UsageError(
                f"--images {images} goes with --annotations; --data {data} says itself where its images are."
            )
        return load_dataset(find_split(find_dataset(data), split))
    assert annotations is not None
    if images is None:
        raise UsageError(f"--annotations {annotations} needs --images, the folder that its file names are in.")
    return load_dataset(Split.of_files(annotations, images))


def require_export() -> None:
    for module in ("torch", "onnx", "onnxscript"):
        need(module, "export", "exporting")

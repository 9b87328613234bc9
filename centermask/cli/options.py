# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and what they mean: data sets and models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from centermask_runtime.errors import DataError, ModelError, UsageError, did_you_mean

if TYPE_CHECKING:
    from centermask.data.coco import CocoDataset
    from centermask_runtime.networks.network import Network

RELEASED = Path(__file__).parents[1] / "released"

Command = Callable[..., Any]


def model_option(command: Command) -> Command:
    text = "Weights (.safetensors), an .onnx file, or the name of a released model."
    return click.option("--model", required=True, help=text)(command)


def threads_option(command: Command) -> Command:
    return click.option("--threads", type=click.IntRange(min=1), help="CPU threads of the network (default: all).")(
        command
    )


def data_options(command: Command) -> Command:
    for option in (
        click.option("--images", type=click.Path(path_type=Path), help="With --annotations: the folder of its images."),
        click.option("--annotations", type=click.Path(path_type=Path), help="A COCO JSON file, instead of --data."),
        click.option("--split", default="val", show_default=True, help="Part of the data set."),
        click.option("--data", type=click.Path(path_type=Path), help="A data set folder in a COCO layout."),
    ):
        command = option(command)
    return command


def open_dataset(data: Path | None, split: str, annotations: Path | None, images: Path | None) -> CocoDataset:
    """The data set that --data and --split, or --annotations and --images, name."""
    from centermask.data.coco import find_split, load_coco

    if (data is None) == (annotations is None):
        raise UsageError("Name the data set by --data FOLDER, or by --annotations FILE with --images FOLDER.")
    if data is not None:
        if not data.is_dir():
            raise DataError(f"There is no folder '{data}': check the path that --data names.")
        return load_coco(*find_split(data, split))
    assert annotations is not None
    if images is None:
        raise UsageError(f"--annotations {annotations} needs --images, the folder that its file names are in.")
    return load_coco(annotations, images)


def find_model(model: str) -> Path:
    """A file, or the file of a released model. Raises ModelError that names what there is."""
    path = Path(model)
    if path.suffix in (".safetensors", ".onnx"):
        if not path.is_file():
            raise ModelError(f"There is no model file {path}.")
        return path
    released = {file.stem: file for file in sorted(RELEASED.glob("*.safetensors"))}
    if model in released:
        return released[model]
    raise ModelError(
        f"--model '{model}' is no .safetensors or .onnx file and no released model; {did_you_mean(model, released)}"
    )


def open_network(model: str, threads: int | None = None) -> Network:
    """The back end that runs a model: ONNX Runtime for .onnx, PyTorch for weights."""
    path = find_model(model)
    if path.suffix == ".onnx":
        from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork

        return OnnxRuntimeNetwork(path, threads=threads)
    require("torch", "train", f"running {path.name} with PyTorch; an exported .onnx file needs no torch")
    import torch

    from centermask.model.torch_network import TorchNetwork
    from centermask.model.weights import load_weights

    if threads is not None:
        torch.set_num_threads(threads)
    network, spec, _ = load_weights(path)
    return TorchNetwork(network.to("cuda" if torch.cuda.is_available() else "cpu"), spec)


def require(module: str, extra: str, purpose: str) -> None:
    """Raises UsageError when an optional dependency is missing, with the command that installs it."""
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise UsageError(f"{module} is needed for {purpose}: pip install -e '.[{extra}]'.")


def require_export() -> None:
    for module in ("torch", "onnx", "onnxscript"):
        require(module, "export", "exporting")

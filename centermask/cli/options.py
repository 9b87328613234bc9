# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and what they mean: data sets and models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from centermask_runtime.errors import ModelError, UsageError, did_you_mean

if TYPE_CHECKING:
    from centermask.data.coco import CocoDataset
    from centermask_runtime.networks.network import Network

RELEASED = Path(__file__).parents[1] / "released"
ENGINES = (".engine", ".plan")
MODEL_SUFFIXES = (".safetensors", ".onnx", ".xml", ".torchscript", *ENGINES)

Command = Callable[..., Any]


def model_option(command: Command) -> Command:
    text = "Weights (.safetensors), an exported .onnx, .xml or .torchscript file, or a released model's name."
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
        click.option("--data", type=click.Path(path_type=Path), help="A data set: folder, YOLO data.yaml, or name."),
    ):
        command = option(command)
    return command


def open_dataset(data: Path | None, split: str, annotations: Path | None, images: Path | None) -> CocoDataset:
    """The data set that --data and --split, or --annotations and --images, name."""
    require("pycocotools", "train", "reading data sets")
    from centermask.data.coco import find_split, load_coco
    from centermask.data.layouts import find_dataset

    if (data is None) == (annotations is None):
        raise UsageError("Name the data set by --data FOLDER, or by --annotations FILE with --images FOLDER.")
    if data is not None:
        return load_coco(*find_split(find_dataset(data), split))
    assert annotations is not None
    if images is None:
        raise UsageError(f"--annotations {annotations} needs --images, the folder that its file names are in.")
    return load_coco(annotations, images)


def find_model(model: str) -> Path:
    """A file, the file of a released model, or the .xml of a folder. Raises ModelError that names what there is."""
    path = Path(model)
    if path.suffix in MODEL_SUFFIXES:
        if not path.is_file():
            raise ModelError(f"There is no model file {path}.")
        return path
    released = {file.stem: file for file in sorted(RELEASED.glob("*.safetensors"))}
    if model in released:
        return released[model]
    if path.is_dir():
        found = sorted(path.glob("*.xml"))
        if len(found) == 1:
            return found[0]
        raise ModelError(f"The folder {path} holds {len(found) or 'no'} OpenVINO models (.xml); name a model file.")
    raise ModelError(
        f"'{model}' is no model file ({', '.join(MODEL_SUFFIXES)}) and no released model; "
        f"{did_you_mean(model, released)}"
    )


def open_network(model: str, threads: int | None = None) -> Network:
    """The back end that runs a model, by the file's suffix: ONNX Runtime for .onnx, PyTorch for weights."""
    path = find_model(model)
    if path.suffix == ".xml":
        require("openvino", "openvino", f"running {path.name}")
        from centermask_runtime.networks.openvino_runtime import OpenVinoNetwork

        return OpenVinoNetwork(path, threads=threads)
    if path.suffix in ENGINES:
        raise ModelError(
            f"{path} is a TensorRT engine, which this command does not run: run the ONNX file, or serve it with Triton."
        )
    if path.suffix == ".onnx":
        from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork

        return OnnxRuntimeNetwork(path, threads=threads)
    require("torch", "train", f"running {path.name} with PyTorch; an exported .onnx file needs no torch")
    import torch

    from centermask.model.torch_network import TorchNetwork
    from centermask.model.weights import load_weights

    if threads is not None:
        torch.set_num_threads(threads)
    if path.suffix == ".torchscript":
        from centermask.model.torchscript_network import TorchScriptNetwork

        return TorchScriptNetwork(path)
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

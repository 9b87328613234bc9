# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share, and what they mean: data sets and models."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from centermask.cli.devices import CPU, CUDA, Device
from centermask_runtime.errors import ModelError, UsageError, did_you_mean
from centermask_runtime.networks.opening import ENGINES

if TYPE_CHECKING:
    from centermask.data.dataset import Dataset
    from centermask_runtime.networks.network import Network
    from centermask_runtime.pipeline.frame import FramePipeline

RELEASED = Path(__file__).parents[1] / "released"
MODEL_SUFFIXES = (".safetensors", ".onnx", ".xml", ".torchscript", *ENGINES)

Command = Callable[..., Any]


def model_option(command: Command) -> Command:
    text = "Weights (.safetensors), an exported .onnx, .xml, .torchscript or .engine file, or a released model's name."
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


def open_dataset(data: Path | None, split: str, annotations: Path | None, images: Path | None) -> Dataset:
    """The data set that --data and --split, or --annotations and --images, name."""
    require("pycocotools", "train", "reading data sets")
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


@contextmanager
def open_pipeline(
    model: str, threads: int | None, device: Device, *, stage_times: bool = False, **selection: Any
) -> Iterator[FramePipeline]:
    """The pipeline that runs a model on the device, and all below it, given back at the end.

    selection: score_threshold, mask_threshold, max_detections, classes. stage_times: on a GPU too, which then has no
    CUDA graph; the CPU always takes them.
    """
    path = find_model(model)
    with ExitStack() as stack:
        if device.runs_gpu_network(path):
            from centermask_runtime.networks.opening import gpu_stream, open_gpu_network
            from centermask_runtime.pipeline.gpu import GpuPipeline

            driver, stream = stack.enter_context(gpu_stream(device.cuda_driver, device.index))
            network = open_gpu_network(path, driver, stream, device=device.index)
            stack.callback(network.close)  # also when the pipeline refuses the selection
            yield stack.enter_context(GpuPipeline(driver, network, stream=stream, stage_times=stage_times, **selection))
        else:
            from centermask_runtime.pipeline.cpu import Pipeline

            yield stack.enter_context(Pipeline(open_network(model, threads, device), **selection))


def open_network(model: str, threads: int | None = None, device: Device | None = None) -> Network:
    """The back end that runs a model, by the file's suffix: ONNX Runtime for .onnx, PyTorch for weights."""
    path, device = find_model(model), device or Device()
    if device.runs_gpu_network(path):
        from centermask_runtime.networks.host_view import open_host_view

        return open_host_view(path, device.cuda_driver, device.index)
    if path.suffix == ".xml":
        require("openvino", "openvino", f"running {path.name}")
        from centermask_runtime.networks.openvino_runtime import OpenVinoNetwork

        return OpenVinoNetwork(path, threads=threads)
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
    gpus = torch.cuda.device_count() if device.kind != CPU and torch.cuda.is_available() else 0
    if device.kind == CUDA and device.index >= gpus:
        raise UsageError(
            f"--device cuda:{device.index} was asked for, but PyTorch finds {gpus or 'no'} GPU{'s' * (gpus > 1)} here, "
            "counted from 0; use another, or --device cpu."
        )
    network, spec, _ = load_weights(path)
    return TorchNetwork(network.to(f"cuda:{device.index}" if gpus else "cpu"), spec)


def require(module: str, extra: str, purpose: str) -> None:
    """Raises UsageError when an optional dependency is missing, with the command that installs it."""
    if importlib.util.find_spec(module) is None:
        raise UsageError(f"{module} is needed for {purpose}: pip install -e '.[{extra}]'.")


def require_export() -> None:
    for module in ("torch", "onnx", "onnxscript"):
        require(module, "export", "exporting")

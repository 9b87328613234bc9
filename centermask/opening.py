# SPDX-License-Identifier: Apache-2.0
"""What opens a model where PyTorch may be: all that the runtime opens, weights, TorchScript and released names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from centermask.released import released_models
from centermask_runtime.device import CPU, CUDA, Device
from centermask_runtime.errors import ModelError, UsageError, did_you_mean
from centermask_runtime.networks import opening as exported
from centermask_runtime.packages import need
from centermask_runtime.pipeline import opening as pipelines
from centermask_runtime.selection import SelectionWords

if TYPE_CHECKING:
    from centermask_runtime.networks.network import Network
    from centermask_runtime.pipeline.frame import FramePipeline

MODEL_SUFFIXES = (".safetensors", *exported.MODEL_SUFFIXES, ".torchscript")


def find_model(model: str | Path) -> Path:
    """The file that `model` is, that of a released model of this name, or the .xml in a folder.

    Raises ModelError that names the nearest released model.

    >>> find_model("nuclei").name
    'nuclei_dla_46c.safetensors'
    """
    released = released_models()
    if str(model) in released:
        return released[str(model)]
    path = exported.find_file(model, MODEL_SUFFIXES)
    if path is None:
        raise ModelError(
            f"'{model}' is no model file ({', '.join(MODEL_SUFFIXES)}) and no released model; "
            f"{did_you_mean(str(model), released)}"
        )
    return path


def open_network(model: str | Path, device: Device | None = None, threads: int | None = None) -> Network:
    """The network of a model file or a released model on a device; see the runtime's open_network.

    threads of PyTorch are those of the whole process. Raises what the runtime's does.
    """
    path, device = find_model(model), device or Device()
    if path.suffix in exported.MODEL_SUFFIXES:
        return exported.open_network(path, device, threads)
    device.runs_gpu_network(path)  # refuses what cannot be
    need("torch", "train", f"running {path.name} with PyTorch; an exported .onnx file needs no torch")
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if path.suffix == ".torchscript":
        from centermask.model.torchscript_network import TorchScriptNetwork

        return TorchScriptNetwork(path)
    from centermask.model.torch_network import TorchNetwork
    from centermask.model.weights import load_weights

    network, spec, _ = load_weights(path)
    return TorchNetwork(network.to(_torch_device(device)), spec)


@contextmanager
def open_pipeline(
    model: str | Path,
    device: Device | None = None,
    threads: int | None = None,
    *,
    stage_times: bool = False,
    run_lengths: bool = False,
    **selection: Unpack[SelectionWords],
) -> Iterator[FramePipeline]:
    """The pipeline of a model file or a released model, given back at the end; see the runtime's open_pipeline."""
    with pipelines.open_pipeline(
        model, device, threads, stage_times=stage_times, run_lengths=run_lengths, find=find_model, opener=open_network,
        **selection,
    ) as pipeline:  # fmt: skip
        yield pipeline


def _torch_device(device: Device) -> str:
    """PyTorch's name for the device. Raises UsageError where it has no such GPU."""
    import torch

    gpus = torch.cuda.device_count() if device.kind != CPU and torch.cuda.is_available() else 0
    if device.kind == CUDA and device.index >= gpus:
        raise UsageError(
            f"Device cuda:{device.index} was asked for, but PyTorch finds {gpus or 'no'} GPU{'s' * (gpus > 1)} here, "
            "counted from 0; use another, or device cpu."
        )
    return f"cuda:{device.index}" if gpus else "cpu"

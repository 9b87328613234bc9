# SPDX-License-Identifier: Apache-2.0
"""What opens a model where PyTorch may be: all that the runtime opens, weights, TorchScript and released names."""

from __future__ import annotations

import functools
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from centermask.released import released_models
from centermask_runtime.cpus import threads_to_use
from centermask_runtime.device import CPU, CUDA, Device, check_threads
from centermask_runtime.errors import ModelError, UsageError, did_you_mean
from centermask_runtime.networks import opening as exported
from centermask_runtime.packages import need
from centermask_runtime.pipeline import opening as pipelines
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.selection import SelectionWords

if TYPE_CHECKING:
    from centermask_runtime.networks.network import Network
    from centermask_runtime.pipeline.frame import FramePipeline

MODEL_SUFFIXES = (".safetensors", *exported.MODEL_SUFFIXES, ".torchscript")
_FORKED: list[int] = []  # this process, where it was forked after PyTorch had opened a model


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

    threads of PyTorch are those of the whole process, and one in a process that is forked later. Raises what the
    runtime's does.
    """
    path, device = find_model(model), device or Device()
    if path.suffix in exported.MODEL_SUFFIXES:
        return exported.open_network(path, device, threads)
    return _open_torch_network(path, device, threads)


def open_pipeline(
    model: str | Path,
    device: Device | None = None,
    threads: int | None = None,
    *,
    stage_times: bool = False,
    run_lengths: bool = False,
    tiling: Tiling | None = None,
    **selection: Unpack[SelectionWords],
) -> AbstractContextManager[FramePipeline]:
    """Opens the pipeline of a model file or a released model; see the runtime's open_pipeline."""
    path, device = find_model(model), device or Device()
    if path.suffix in exported.MODEL_SUFFIXES:
        return pipelines.open_pipeline(
            path, device, threads, stage_times=stage_times, run_lengths=run_lengths, tiling=tiling, **selection
        )
    return pipelines.pipeline_of(_open_torch_network(path, device, threads), selection, tiling)


def _open_torch_network(path: Path, device: Device, threads: int | None) -> Network:
    threads = threads_to_use(check_threads(threads))
    device.runs_gpu_network(path)  # refuses what cannot be
    need("torch", "train", f"running {path.name} with PyTorch; an exported .onnx file needs no torch")
    import torch

    _prepare_for_forks()
    if threads is not None and not _FORKED:
        torch.set_num_threads(threads)
    if path.suffix == ".torchscript":
        from centermask.model.torchscript_network import TorchScriptNetwork

        return TorchScriptNetwork(path)
    from centermask.model.torch_network import TorchNetwork
    from centermask.model.weights import load_weights

    network, spec, _ = load_weights(path)
    return TorchNetwork(network.to(_torch_device(device)), spec)


@functools.cache
def _prepare_for_forks() -> None:
    """A child gets one thread of PyTorch, since those of OpenMP do not outlive a fork and would be waited for."""
    if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
        os.register_at_fork(after_in_child=_take_one_thread)


def _take_one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    _FORKED.append(os.getpid())


def _gpus_found(gpus: int) -> str:
    """In words: no GPU here; one GPU here, cuda:0; 2 GPUs here, cuda:0 to cuda:1."""
    if not gpus:
        return "no GPU here"
    return "one GPU here, cuda:0" if gpus == 1 else f"{gpus} GPUs here, cuda:0 to cuda:{gpus - 1}"


def _torch_device(device: Device) -> str:
    """PyTorch's name for the device. Raises UsageError where it has no such GPU."""
    import torch

    gpus = torch.cuda.device_count() if device.kind != CPU and torch.cuda.is_available() else 0
    if device.kind == CUDA and device.index >= gpus:
        raise UsageError(
            f"Device cuda:{device.index} was asked for, but PyTorch finds {_gpus_found(gpus)}; use "
            f"{('', 'that, or ', 'one of them, or ')[min(gpus, 2)]}device cpu."
        )
    return f"cuda:{device.index}" if gpus else "cpu"

# SPDX-License-Identifier: Apache-2.0
"""Which pipeline runs a model file on a device: GpuPipeline with all below it, or Pipeline around a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from centermask_runtime.device import Device
from centermask_runtime.networks.opening import find_exported, gpu_stream, open_gpu_network, open_network
from centermask_runtime.selection import Selection, SelectionWords

if TYPE_CHECKING:
    from centermask_runtime.networks.network import Network
    from centermask_runtime.pipeline.frame import FramePipeline

NetworkOpener = Callable[[Path, Device, int | None], "Network"]


@contextmanager
def open_pipeline(
    model: str | Path,
    device: Device | None = None,
    threads: int | None = None,
    *,
    stage_times: bool = False,
    run_lengths: bool = False,
    find: Callable[[str | Path], Path] = find_exported,
    opener: NetworkOpener = open_network,
    **selection: Unpack[SelectionWords],
) -> Iterator[FramePipeline]:
    """The pipeline of an exported model on a device, and all below it, given back at the end of the `with` block.

    threads: of the CPU. stage_times: on a GPU too, which then has no CUDA graph; the CPU always takes them.
    run_lengths: a GPU counts those of the masks, for whoever writes COCO results. find and opener: for whoever knows
    more models and more networks. selection: the keyword arguments of Selection.of.
    Raises UsageError, ModelError, DriverError.

        with open_pipeline("model.onnx", Device.of("cuda"), conf=0.3) as pipeline: ...
    """
    path, device = find(model), device or Device()
    with ExitStack() as stack:
        if device.runs_gpu_network(path):
            from centermask_runtime.pipeline.gpu import GpuPipeline

            driver, stream = stack.enter_context(gpu_stream(path, device.cuda_driver, device.index))
            network = open_gpu_network(path, driver, stream, device=device.index)
            stack.callback(network.close)  # also when the selection is refused
            chosen = Selection.of(network.spec, **selection)
            yield stack.enter_context(
                GpuPipeline(driver, network, chosen, stream=stream, stage_times=stage_times, run_lengths=run_lengths)
            )
        else:
            from centermask_runtime.pipeline.cpu import Pipeline

            plain = stack.enter_context(opener(path, device, threads))
            yield stack.enter_context(Pipeline(plain, Selection.of(plain.spec, **selection)))

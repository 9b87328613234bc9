# SPDX-License-Identifier: Apache-2.0
"""Which pipeline runs a model file on a device: GpuPipeline with all below it, or Pipeline around a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack

from centermask_runtime.device import Device
from centermask_runtime.networks.opening import find_exported, gpu_stream, open_cpu_network, open_gpu_network
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.tiles import TiledPipeline, tiled_selections
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.selection import Selection, SelectionWords

if TYPE_CHECKING:
    from centermask_runtime.networks.network import Network
    from centermask_runtime.pipeline.frame import FramePipeline


class PipelineOpener(Protocol):
    """open_pipeline, or whatever opens more than it does."""

    def __call__(
        self, model: str | Path, device: Device | None = None, threads: int | None = None, *,
        tiling: Tiling | None = None, **selection: Unpack[SelectionWords],
    ) -> AbstractContextManager[FramePipeline]: ...  # fmt: skip


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
    """Opens the pipeline of an exported model on a device, which is given back at the end of the `with` block.

    threads: of the CPU. stage_times: on a GPU too, which then has no CUDA graph; the CPU always takes them.
    run_lengths: a GPU counts those of the masks, for whoever writes COCO results. tiling: frames are seen in tiles.
    selection: the keyword arguments of Selection.of. Raises UsageError, ModelError, DriverError.

        with open_pipeline("model.onnx", Device.of("cuda"), conf=0.3) as pipeline: ...
    """
    path, device = find_exported(model), device or Device()
    if device.runs_gpu_network(path):
        return _open_gpu_pipeline(path, device, stage_times, run_lengths and tiling is None, tiling, selection)
    return pipeline_of(open_cpu_network(path, threads), selection, tiling)


def pipeline_of(network: Network, selection: SelectionWords, tiling: Tiling | None = None) -> Pipeline | TiledPipeline:
    """The pipeline around a network, which is closed where the selection is refused. Raises UsageError."""
    with ExitStack() as made:
        made.callback(network.close)
        if tiling is None:
            pipeline: Pipeline | TiledPipeline = Pipeline(network, Selection.of(network.spec, **selection))
        else:
            frame, tile = tiled_selections(network.spec, selection)
            pipeline = TiledPipeline(Pipeline(network, tile), tiling, frame)
        made.pop_all()
    return pipeline


@contextmanager
def _open_gpu_pipeline(
    path: Path, device: Device, stage_times: bool, run_lengths: bool, tiling: Tiling | None, selection: SelectionWords
) -> Iterator[FramePipeline]:
    from centermask_runtime.pipeline.gpu import GpuPipeline

    with ExitStack() as stack:
        driver, stream = stack.enter_context(gpu_stream(path, device.cuda_driver, device.index))
        network = open_gpu_network(path, driver, stream, device=device.index)
        stack.callback(network.close)  # also when the selection is refused
        chosen = Selection.of(network.spec, **selection)
        if tiling is not None:
            frame, chosen = tiled_selections(network.spec, selection)
        pipeline = stack.enter_context(
            GpuPipeline(driver, network, chosen, stream=stream, stage_times=stage_times, run_lengths=run_lengths)
        )
        yield pipeline if tiling is None else TiledPipeline(pipeline, tiling, frame)

# SPDX-License-Identifier: Apache-2.0
"""Time of every stage of the GPU pipeline, by CUDA events, and which graph level is faster on this GPU.

Without models: the kernels alone, on invented outputs of a network with 80 classes at 512 x 512, K = 100, S = 32, for
a frame of 1080p with 100 objects. With --peaks or --heads, the exported model of that level (.onnx or an engine) on a
sample image tiled to 1080p: network, postprocess and a whole frame from the host's pixels to Instances, alone and with
two under way. The first rounds warm up and do not count. Medians and 95th percentiles.

Times of stages are between two events on the stream, around what Python puts there: where that is several launches, the
GPU's waits for the host between them are in the figure. Each stage and the postprocess are therefore timed as a CUDA
graph of their own too ("one graph"), without such waits. The stages of a model are not: for the network and its
postprocess together see "whole frame", which is a graph where the network can be captured.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from centermask_runtime.cuda import layouts
from centermask_runtime.cuda.buffers import Arena, Block, Frames, HeadPointers
from centermask_runtime.cuda.compile import kernel_image
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.providers import AUTO, PROVIDERS, open_driver
from centermask_runtime.cuda.workspace import Workspace
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.images import read_image
from centermask_runtime.networks.gpu_network import GpuNetwork
from centermask_runtime.networks.opening import open_gpu_network
from centermask_runtime.pipeline.gpu import GpuPipeline
from centermask_runtime.spec import ModelSpec
from centermask_runtime.speed import REPORTED_FPS, REPORTED_ON, machine

SAMPLE = Path(__file__).parents[1] / "samples" / "images" / "fluorescence.png"
FRAME_HW = 1080, 1920
OBJECTS, BOX = 100, 200  # objects of so many source pixels on a side
REQUIRED_MS = 0.15  # of the postprocess, on an H100
WARMUP = 10
SPEC = ModelSpec(
    name="invented",
    class_names=tuple(f"class {number}" for number in range(80)),
    category_ids=tuple(range(80)),
    input_hw=(512, 512),
    mean_bgr=(0.4, 0.4, 0.4),
    std_bgr=(0.3, 0.3, 0.3),
    saliency_channels=80,
)

Times = dict[str, tuple[float, float]]  # what -> median and 95th percentile in milliseconds
ONE_GRAPH = ", one graph"
NOT_POSTPROCESS = ("letterbox", "runs", "draw")
GAPS = "Between events on the stream: stages of several launches include the host's gaps, 'one graph' does not."


class ModelTimes(NamedTuple):
    times: Times
    graph: str  # what the pipeline says of its CUDA graph
    objects: int  # found in the last frame
    network: str
    model: str  # name and input size


def sample_frame(frame_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """The sample image beside and below itself until the frame is full, uint8 [H, W, 3] BGR."""
    image = read_image(SAMPLE)
    repeats = [-(-side // own) for side, own in zip(frame_hw, image.shape[:2], strict=True)]
    return np.ascontiguousarray(np.tile(image, (*repeats, 1))[: frame_hw[0], : frame_hw[1]])


def invented_outputs(spec: ModelSpec, letterbox: Letterbox, objects: int) -> dict[str, NDArray[Any]]:
    """What a network of the spec's level could give for one frame: `objects` confident ones of BOX source pixels."""
    rng = np.random.default_rng(0)
    layout = layouts.outputs_layout(spec, 1)
    arrays = {name: rng.normal(0, 2, field.shape).astype(field.dtype) for name, field in layout.fields.items()}
    scale_x, scale_y = letterbox.scale_xy
    left, top = letterbox.offset_xy
    size = np.array([BOX * scale_x, BOX * scale_y])
    height, width = letterbox.resized_hw
    columns = int(np.ceil(np.sqrt(objects)))  # on a lattice, so that no two peaks are neighbours
    places = np.stack(np.divmod(np.arange(objects), columns)[::-1], 1) / (columns - 1 or 1)
    corners = (left, top) + places * (np.array((width, height)) - size)
    if spec.graph_level == "peaks":
        k = spec.max_detections
        boxes = np.zeros((k, 4), np.float32)
        boxes[:objects] = np.concatenate((corners, corners + size), 1)
        arrays["boxes"][0] = boxes
        arrays["scores"][0] = np.where(np.arange(k) < objects, np.linspace(0.95, 0.5, k), 0)
        arrays["labels"][0] = rng.integers(0, spec.num_classes, k)
        return arrays
    arrays["heatmap"] -= 12
    arrays["offsets"][:] = 0
    x, y = ((corners + size / 2) / spec.stride).astype(int).T
    arrays["heatmap"][0, np.arange(objects) % spec.num_classes, y, x] = 3
    arrays["sizes"][0] = (size / spec.stride)[:, None, None]
    return arrays


class EventTimer:
    """Milliseconds between two events around work on a stream, with the GPU's waits for the host between launches."""

    def __init__(self, driver: Driver, stream: int, rounds: int) -> None:
        self._driver, self._stream, self._rounds = driver, stream, rounds
        self._start, self._end = driver.create_event(), driver.create_event()

    def __call__(self, work: Callable[[], object]) -> tuple[float, float]:
        times = []
        for turn in range(WARMUP + self._rounds):
            self._driver.record(self._start, self._stream)
            work()
            self._driver.record(self._end, self._stream)
            self._driver.synchronize(self._stream)
            if turn >= WARMUP:
                times.append(self._driver.elapsed_ms(self._start, self._end))
        return summary(times)

    def close(self) -> None:
        self._driver.destroy_event(self._start)
        self._driver.destroy_event(self._end)


def summary(times_ms: list[float]) -> tuple[float, float]:
    return round(float(np.median(times_ms)), 4), round(float(np.percentile(times_ms, 95)), 4)


def time_kernels(
    driver: Driver, kernels: bytes, spec: ModelSpec, *, frame_hw: tuple[int, int], objects: int, rounds: int
) -> Times:
    """Each stage of one graph level on invented outputs, and the postprocess; put on the stream, and as graphs."""
    with ExitStack() as made:
        stream = driver.create_stream()
        made.callback(driver.destroy_stream, stream)
        space = made.enter_context(Workspace(driver, spec, kernels))
        timer = EventTimer(driver, stream, rounds)
        made.callback(timer.close)
        results = layouts.results_layout(spec, 1)
        block = results.at(space.room(results.nbytes))
        work = stage_calls(space, block, stream, frame_hw, objects)
        for step in work.values():
            step()
        timed = {name: [step] for name, step in work.items()}
        timed["postprocess"] = [step for name, step in work.items() if name not in NOT_POSTPROCESS]
        times = {name: timer(partial(_each, steps)) for name, steps in timed.items()}
        for name, steps in timed.items() if driver.supports_graphs else ():
            driver.begin_capture(stream)
            _each(steps)
            graph = driver.end_capture(stream)
            made.callback(driver.destroy_graph, graph)
            times[name + ONE_GRAPH] = timer(partial(driver.launch_graph, graph, stream))
        found = np.zeros(1, np.int32)
        driver.download(found, block["found"], stream)
        driver.synchronize(stream)
        assert found[0] == objects, (found, objects)
    return times


def stage_calls(
    space: Workspace, results: Block, stream: int, frame_hw: tuple[int, int], objects: int
) -> dict[str, Callable[[], object]]:
    """Each stage by its name, ready to be put on the stream, on an invented frame and outputs of a network."""
    spec, stages, driver = space.spec, space.stages, space.driver
    space.prepare(None)
    letterbox = Letterbox.fit(frame_hw, spec.input_hw)
    for name, array in invented_outputs(spec, letterbox, objects).items():
        driver.upload(space.outputs[name], array, stream)
        driver.synchronize(stream)
    pixels = np.random.default_rng(1).integers(0, 256, (*frame_hw, 3), dtype=np.uint8)
    frames = Frames(space.room(pixels.nbytes), frame_hw[1] * 3, pixels.nbytes, 1)
    driver.upload(frames.pointer, pixels, stream)
    driver.synchronize(stream)
    largest = layouts.largest_arena(spec, frame_hw)
    arena, runs = Arena(space.room(largest), largest), Arena(space.room(largest), largest // 4)
    work: dict[str, Callable[[], object]] = {
        "letterbox": lambda: stages.letterbox(frames, letterbox, space.images, stream)
    }
    if spec.graph_level == "heads":
        heads = HeadPointers(**space.outputs_by_name)
        work["top_peaks"] = lambda: stages.top_peaks(heads.heatmap, space.peaks, 1, stream, spec.score_threshold)
        work["gather_heads"] = lambda: stages.gather_heads(heads, space.peaks, 1, stream)
    peaks = space.find_peaks(1, stream, spec.score_threshold)
    work["select"] = lambda: stages.select(
        peaks, letterbox, results, 1, stream,
        allowed=space.allowed, score_threshold=spec.score_threshold, max_detections=spec.max_detections,
    )  # fmt: skip
    work["masks"] = lambda: stages.masks(
        peaks, letterbox, results, arena, space.probabilities, 1, stream, mask_threshold=spec.mask_threshold
    )
    work["runs"] = lambda: stages.runs(frame_hw, results, arena, runs, 1, stream)
    work["draw"] = lambda: stages.draw(frames, frame_hw, results, arena, space.palette, stream)
    return work


def _each(steps: Iterable[Callable[[], object]]) -> None:
    for step in steps:
        step()


def time_model(
    driver: Driver,
    open_network: Callable[[int], GpuNetwork],
    frames: Iterable[NDArray[np.uint8]],
    rounds: int,
    kernels: bytes | None = None,
) -> ModelTimes:
    """Stages and whole frames of an exported model."""
    stream = driver.create_stream()
    endless = itertools.cycle(frames)
    with GpuPipeline(driver, open_network(stream), stream=stream, stage_times=True, kernels=kernels) as pipeline:
        timings = []
        for turn in range(WARMUP + rounds):
            _, taken = pipeline.timed(next(endless))
            if turn >= WARMUP and taken is not None:
                timings.append(taken)
    names = [field.name for field in dataclasses.fields(timings[0]) if field.name != "total_ms"]
    times = {name.removesuffix("_ms"): summary([getattr(one, name) for one in timings]) for name in names}
    with GpuPipeline(driver, open_network(stream), stream=stream, kernels=kernels) as pipeline:
        wall = []
        for turn in range(WARMUP + rounds):
            start = time.perf_counter()
            found = pipeline(next(endless))
            if turn >= WARMUP:
                wall.append((time.perf_counter() - start) * 1e3)
        times["whole frame"] = summary(wall)
        graph, network, spec = pipeline.graph, pipeline.network.description, pipeline.spec
        results = pipeline.each(itertools.islice(endless, WARMUP + rounds))
        for _ in range(WARMUP):
            next(results)
        start = time.perf_counter()
        count = sum(1 for _ in results)
        each = round((time.perf_counter() - start) * 1e3 / count, 4)
        times["a frame, two under way"] = each, each
    driver.destroy_stream(stream)
    return ModelTimes(times, graph, len(found), network, f"{spec.name}, {spec.input_hw[0]} x {spec.input_hw[1]}")


def verdict(times: dict[str, Times]) -> str:
    """Which level wins, by the most complete time that both have."""
    for what in ("whole frame", "postprocess" + ONE_GRAPH, "postprocess"):
        both = {level: one[what][0] for level, one in times.items() if what in one}
        if len(both) == 2:
            (best, low), (_, high) = sorted(both.items(), key=lambda item: item[1])
            scope = "" if what == "whole frame" else " (kernels alone: the network's own time is not in it)"
            return f"Graph level '{best}' is faster: {what} {low} ms against {high} ms{scope}."
    return "Only one graph level was timed."


def target_verdict(times: dict[str, Times], device: str) -> str:
    """Whether the postprocess of each level takes no longer than it may."""
    said = []
    for level, one in times.items():
        what = "postprocess" + (ONE_GRAPH if "postprocess" + ONE_GRAPH in one else "")
        said.append(
            f"{'met' if one[what][0] <= REQUIRED_MS else 'missed'} at level '{level}' ({what}: {one[what][0]} ms)"
        )
    return (
        f"Postprocess within {REQUIRED_MS} ms on an H100, {OBJECTS} objects at 1080p: {', '.join(said)}; "
        f"kernels alone, on {device}."
    )


def speed(times: Times) -> dict[str, float]:
    """Frames a second, one at a time and two under way, and the first over the reported one."""
    fps = 1e3 / times["whole frame"][0]
    both = {"fps": fps, "fps_two_under_way": 1e3 / times["a frame, two under way"][0]}
    return {name: round(value, 2) for name, value in (both | {"ratio_to_reported": fps / REPORTED_FPS}).items()}


@click.command()
@click.option("--peaks", type=click.Path(path_type=Path), help="A model of graph level peaks: .onnx or an engine.")
@click.option("--heads", type=click.Path(path_type=Path), help="A model of graph level heads: .onnx or an engine.")
@click.option("--rounds", type=click.IntRange(min=1), default=200, show_default=True, help="Rounds that count.")
@click.option("--device", type=click.IntRange(min=0), default=0, show_default=True, help="Number of the GPU.")
@click.option("--cuda-driver", type=click.Choice((AUTO, *PROVIDERS)), default=AUTO, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the tables.")
def main(peaks: Path | None, heads: Path | None, rounds: int, device: int, cuda_driver: str, as_json: bool) -> None:
    """Times the stages of the GPU pipeline. Needs an NVIDIA GPU."""
    try:
        driver = open_driver(cuda_driver, device)
        image = kernel_image(driver.compute_capability)
        times: dict[str, Times] = {}
        for level in ("peaks", "heads"):
            spec = dataclasses.replace(SPEC, graph_level=level)
            times[level] = time_kernels(driver, image.code, spec, frame_hw=FRAME_HW, objects=OBJECTS, rounds=rounds)
        models: dict[str, ModelTimes] = {}
        frames = [sample_frame(FRAME_HW)] if peaks or heads else []
        for level, path in (("peaks", peaks), ("heads", heads)):
            if path is not None:
                open_network = partial(open_gpu_network, path, driver, device=device)
                models[level] = time_model(driver, open_network, frames, rounds)
        name = driver.name
        driver.close()
    except CenterMaskError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    model_times = {level: one.times for level, one in models.items()}
    said = [verdict(model_times if len(models) == 2 else times), target_verdict(times, name)]
    facts = {
        "device": name, "kernels": image.origin, "machine": machine(), "frame_hw": FRAME_HW, "objects": OBJECTS,
        "rounds": rounds, "kernel_ms": times, "model_ms": model_times, "verdict": said[0], "target_verdict": said[1],
        "required_postprocess_ms": REQUIRED_MS, "reported_fps": REPORTED_FPS, "reported_on": REPORTED_ON, "gaps": GAPS,
        "models": {
            level: {**speed(one.times), "objects_found": one.objects, "cuda_graph": one.graph, "network": one.network,
                    "model": one.model}
            for level, one in models.items()
        },
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(facts))
        return
    for title, group in (("Kernels alone, 100 objects at 1080p", times), ("Models", model_times)):
        table = Table("level", "stage", "median ms", "95 % ms", title=f"{title}: {name}", caption=GAPS)
        for level, stages in group.items():
            for stage, (median, high) in stages.items():
                table.add_row(level, stage, str(median), str(high))
        if group:
            Console().print(table)
    for level, one in models.items():
        click.echo(
            f"{level}: {one.model}, {one.network}, {one.objects} objects found in {SAMPLE.name} tiled; {one.graph}"
        )
    click.echo("\n".join(said))


if __name__ == "__main__":
    main()

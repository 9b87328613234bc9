# SPDX-License-Identifier: Apache-2.0
"""How near `predict` comes to the pace of its slowest stage: each stage of a clip alone, then all of them together.

    python -m benchmarks.overlap samples/nuclei_scan.mp4 --model nuclei_dla_46c.onnx --frames 100

The stages: reading and decoding the video; letterbox, network and masks; drawing; encoding, with COCO results. Each
gets everything in memory that comes before it. The whole is `predict.run`, as the command has it. All take turns, and
the ratio is that of the medians: 1 would be a perfect overlap, and the sum of the stages none at all.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from centermask.opening import open_pipeline
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.frame import FramePipeline
from centermask_runtime.predict import run
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.sinks.outputs import Outputs, sinks_of
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.options import SourceOptions
from centermask_runtime.sources.source import Frame
from centermask_runtime.speed import machine

WHOLE = "all together"


def stages_of(clip: Path, pipeline: FramePipeline, frames: int) -> dict[str, Callable[[], object]]:
    """Name -> what runs that stage over the clip once."""
    options = SourceOptions(max_frames=frames)
    with open_source(clip, options) as source:
        info, read = source.info, list(source)
    found = [pipeline(frame.image) for frame in read]
    drawn = [draw(frame.image, instances, DrawStyle()) for frame, instances in zip(read, found, strict=True)]

    def decode() -> None:
        with open_source(clip, options) as source:
            for _ in source:
                pass

    def encode() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for sink in sinks_of(Path(folder), info, pipeline.spec, Outputs()):
                with sink:
                    for frame, instances, picture in zip(read, found, drawn, strict=True):
                        sink.add(frame, instances, picture)

    def together() -> None:
        with tempfile.TemporaryDirectory() as folder, open_source(clip, options) as source:
            run(pipeline, source, sinks_of(Path(folder), source.info, pipeline.spec, Outputs()))

    return {
        "read and decode": decode,
        "letterbox, network, masks": lambda: _infer(pipeline, read),
        "draw": lambda: _draw(read, found),
        "encode and write": encode,
        WHOLE: together,
    }


def _infer(pipeline: FramePipeline, frames: list[Frame]) -> None:
    for frame in frames:
        pipeline(frame.image)


def _draw(frames: list[Frame], found: list[Instances]) -> None:
    for frame, instances in zip(frames, found, strict=True):
        draw(frame.image, instances, DrawStyle())


@click.command(help=__doc__)
@click.argument("clip", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", required=True, help="A model file, or a released model.")
@click.option("--frames", default=100, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--threads", type=int, help="Of the network (default: all).")
@click.option("--output", type=click.Path(path_type=Path), help="Write the results as JSON.")
def main(clip: Path, model: str, frames: int, rounds: int, threads: int | None, output: Path | None) -> None:
    with open_pipeline(model, threads=threads) as pipeline:
        stages = stages_of(clip, pipeline, frames)
        seconds: dict[str, list[float]] = {name: [] for name in stages}
        for _ in range(rounds):
            for name, stage in stages.items():
                start = time.perf_counter()
                stage()
                seconds[name].append(time.perf_counter() - start)
        description = pipeline.description
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    whole = medians.pop(WHOLE)
    slowest = max(medians, key=lambda name: medians[name])
    result: dict[str, Any] = {
        "clip": clip.name, "model": Path(model).name, "network": description, "frames": frames, "rounds": rounds,
        "seconds": {name: round(value, 3) for name, value in medians.items()}, "together": round(whole, 3),
        "slowest": slowest, "ratio": round(whole / medians[slowest], 3),
        "ratio_without_overlap": round(sum(medians.values()) / medians[slowest], 3), "machine": machine(),
    }  # fmt: skip
    if output is not None:
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = Table("stage", "seconds", title=f"{clip.name}, {frames} frames, medians of {rounds}")
    for name, value in (*medians.items(), (WHOLE, whole)):
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    Console().print(
        f"{result['ratio']} times the slowest; one after another would be {result['ratio_without_overlap']}"
    )


if __name__ == "__main__":
    main()

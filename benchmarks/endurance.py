# SPDX-License-Identifier: Apache-2.0
"""A long video through the whole loop - decoding, network, drawing, encoding, JSON - while memory is watched.

A clip of --frames frames is made first, of a sample image that moves. Reported: resident memory, open files and threads
after each tenth of it. It ends by an error where the memory of any later tenth is more than 2 % above that of the
second, or files or threads grow.

    python -m benchmarks.endurance --frames 20000
"""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import click
import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.memory import open_files, resident_mb, threads
from benchmarks.python_api import SAMPLE, export_dynamic
from centermask_runtime.pipeline.opening import open_pipeline
from centermask_runtime.predict import Result, run
from centermask_runtime.sinks.outputs import Outputs, sinks_of
from centermask_runtime.sources.opening import open_source

SIZE_HW = (240, 320)
TENTHS = 10
MOST_GROWTH = 1.02
THREADS_MORE = 2  # that libraries start and end by themselves


def write_clip(path: Path, count: int) -> None:
    """A part of the sample image that goes round in it."""
    image = cv2.imread(str(SAMPLE))
    assert image is not None, SAMPLE
    image = np.pad(image, ((0, SIZE_HW[0]), (0, SIZE_HW[1]), (0, 0)), "wrap")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *SIZE_HW, "yuv420p"
        for index in track(range(count), "clip"):
            y, x = index % (image.shape[0] - SIZE_HW[0]), (2 * index) % (image.shape[1] - SIZE_HW[1])
            part = np.ascontiguousarray(image[y : y + SIZE_HW[0], x : x + SIZE_HW[1]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="bgr24")))
        container.mux(stream.encode(None))


@click.command(help=__doc__)
@click.option("--frames", default=20_000, type=click.IntRange(200), show_default=True)
@click.option("--imgsz", default=96, type=click.IntRange(96, 192), show_default=True, help="Of the network.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one JSON line, last.")
def main(frames: int, imgsz: int, as_json: bool) -> None:
    rows: list[tuple[int, float, int, int]] = []

    def told(result: Result) -> None:
        number = result.frame.index + 1
        if number % (frames // TENTHS) == 0:
            rows.append((number, resident_mb(), open_files(), threads()))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clip(folder / "clip.mp4", frames)
        with (
            open_pipeline(export_dynamic(folder, imgsz), threads=1) as pipeline,
            open_source(folder / "clip.mp4") as source,
        ):
            sinks = sinks_of(folder / "out", source.info, pipeline.spec, Outputs())
            summary = run(pipeline, source, sinks, progress=told)
    table = Table("frames", "resident, MB", "open files", "threads")
    for row in rows:
        table.add_row(str(row[0]), f"{row[1]:.1f}", str(row[2]), str(row[3]))
    Console().print(table)
    first, later = rows[1], rows[2:]
    growth = max(row[1] for row in later) / first[1]
    print(f"{summary.frames} frames, {summary.objects} objects; memory at most {growth:.3f} x that after {first[0]}")
    if as_json:
        print(json.dumps({"frames": summary.frames, "growth": round(growth, 4), "rows": rows}))
    if growth > MOST_GROWTH or any(row[2] > first[2] or row[3] > first[3] + THREADS_MORE for row in later):
        raise SystemExit("memory, files or threads grew")
    if summary.frames != frames:
        raise SystemExit(f"{summary.frames} of {frames} frames came out")


if __name__ == "__main__":
    main()

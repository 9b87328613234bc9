# SPDX-License-Identifier: Apache-2.0
"""What the public class costs and bears: threads that share a model, and lists of pictures against single calls.

Timed are whole calls, model(picture) and model([picture, ...]): letterbox, network and everything up to bit-packed
masks, by the wall clock. Not timed: opening the model, reading pictures. Ways take turns, round after round, so that a
noisy machine disturbs all alike; given are medians of the rounds with their quartiles. The model is the released one,
exported to ONNX with any batch and a small input (--imgsz), or --model; frames are crops of a sample image.

threads   1 and 2 threads that call one model whose network has one thread; frames per second of all together
wrong     8 threads that call one model 200 times each, all with other pictures: answers that differ from the answer to
          the same picture alone
list      model([8 pictures]) against 8 calls, the network with --threads threads; and the same of the network alone,
          run once with 8 images and 8 times with one
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from centermask.opening import find_model, open_network
from centermask_runtime import CenterMask
from centermask_runtime.device import Device
from centermask_runtime.speed import machine

SAMPLE = Path(__file__).parents[1] / "samples" / "images" / "tissue.png"
RELEASED = "nuclei_dla_46c"
TOGETHER = 8  # pictures of a list, and threads of the check


def crops(count: int, side: int) -> list[NDArray[np.uint8]]:
    """Different parts of a sample image, in sizes that differ a little."""
    image = cv2.imread(str(SAMPLE))
    assert image is not None, SAMPLE
    places = np.random.default_rng(0).integers(0, np.array(image.shape[:2]) - side, (count, 2))
    return [np.asarray(image[y : y + side - n % 3, x : x + side], np.uint8).copy() for n, (y, x) in enumerate(places)]


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Seconds of each way in each round; one round before them does not count."""
    times = [[seconds_of(work) for work in ways.values()] for _ in range(rounds + 1)]
    return dict(zip(ways, np.array(times[1:]).T, strict=True))


def shared_by(model: CenterMask, pictures: list[NDArray[np.uint8]], threads: int) -> Callable[[], object]:
    """All pictures once, by so many threads together."""

    def work() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(model, pictures))

    return work


def wrong_answers(model: CenterMask, pictures: list[NDArray[np.uint8]], calls: int) -> tuple[int, int]:
    """(wrong, all) of TOGETHER threads."""
    truth = [model(picture) for picture in pictures]

    def work(thread: int) -> int:
        wrong = 0
        for step in range(calls):
            place = (thread * 5 + step) % len(pictures)
            found = model(pictures[place])
            same = found.frame_hw == truth[place].frame_hw and np.array_equal(found.boxes, truth[place].boxes)
            wrong += not (same and np.array_equal(found.scores, truth[place].scores))
        return wrong

    with ThreadPoolExecutor(TOGETHER) as pool:
        return sum(pool.map(work, range(TOGETHER))), TOGETHER * calls


def export_dynamic(folder: Path, side: int) -> Path:
    """The released model as an ONNX file of any batch. Needs the extra `export`."""
    from centermask.model.weights import load_weights
    from centermask_export.options import ExportOptions
    from centermask_export.to_onnx import export_onnx

    path = folder / f"{RELEASED}.onnx"
    network, spec, _ = load_weights(find_model(RELEASED))
    export_onnx(network, spec, path, ExportOptions(imgsz=(side, side), dynamic=True))
    return path


@click.command(help=__doc__)
@click.option("--model", type=click.Path(path_type=Path), help="An .onnx of any batch, instead of the released one.")
@click.option("--imgsz", default=128, type=click.IntRange(32, 192), show_default=True, help="Of the export.")
@click.option("--rounds", default=15, type=click.IntRange(3), show_default=True)
@click.option("--frames", default=32, type=click.IntRange(8), show_default=True, help="Pictures per round, of threads.")
@click.option("--calls", default=200, type=click.IntRange(1), show_default=True, help="Of each thread of the check.")
@click.option("--threads", default=1, type=click.IntRange(1), show_default=True, help="Of the network, for lists.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one JSON line, last.")
def main(
    model: Path | None, imgsz: int, rounds: int, frames: int, calls: int, threads: int, as_json: bool
) -> None:  # fmt: skip
    cv2.setNumThreads(1)  # a resize of a small picture in many threads would measure those
    with tempfile.TemporaryDirectory() as folder:
        path = export_dynamic(Path(folder), imgsz) if model is None else model
        with CenterMask(path, threads=1) as shared:
            side, description = min(shared.spec.input_hw), shared.description
            pictures = crops(frames, side)
            wrong, answers = wrong_answers(shared, pictures[:25], calls)
            by_threads = in_turns({str(n): shared_by(shared, pictures, n) for n in (1, 2)}, rounds)
        some = pictures[:TOGETHER]
        with CenterMask(path, threads=threads) as one, open_network(path, Device("cpu"), threads) as network:
            images = np.stack([cv2.resize(picture, one.spec.input_hw[::-1]) for picture in some]).astype(np.uint8)
            lists = in_turns(
                {
                    "a list": lambda: one(some),
                    "calls": lambda: [one(picture) for picture in some],
                    "network, together": lambda: network.run(images),
                    "network, alone": lambda: [network.run(images[n : n + 1]) for n in range(TOGETHER)],
                },
                rounds,
            )
    console = Console(stderr=as_json)
    table = Table("threads", "frames/s", "quartiles", title=f"{frames} pictures of {side}, {description}")
    for name, taken in by_threads.items():
        low, median, high = np.percentile(frames / taken, (25, 50, 75))
        table.add_row(name, f"{median:.1f}", f"{low:.1f}-{high:.1f}")
    gain = float(np.median(by_threads["1"] / by_threads["2"]))
    parts = Table(f"{TOGETHER} pictures", "ms", "quartiles", title=f"network with {threads} threads")
    for name, taken in lists.items():
        low, median, high = np.percentile(taken * 1e3, (25, 50, 75))
        parts.add_row(name, f"{median:.1f}", f"{low:.1f}-{high:.1f}")
    ratio = float(np.median(lists["calls"] / lists["a list"]))
    console.print(table, parts)
    console.print(
        f"{wrong} of {answers} answers to {TOGETHER} threads are wrong; 2 threads do {gain:.2f} x the work of 1; "
        f"a list of {TOGETHER} is {ratio:.2f} x as fast as {TOGETHER} calls"
    )
    if as_json:
        line = {
            "benchmark": "python_api", "model": description, "input": side, "frames": frames, "rounds": rounds,
            "wrong": wrong, "answers": answers,
            "frames_per_second": {name: round(frames / float(np.median(t)), 2) for name, t in by_threads.items()},
            "gain_of_2_threads": round(gain, 3), "threads_of_lists": threads,
            "milliseconds": {name: round(float(np.median(t)) * 1e3, 2) for name, t in lists.items()},
            "list_against_calls": round(ratio, 3), "machine": machine(),
        }  # fmt: skip
        print(json.dumps(line))


if __name__ == "__main__":
    main()

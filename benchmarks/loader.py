# SPDX-License-Identifier: Apache-2.0
"""How many training images a loader worker makes a second, and how long a training waits between two epochs.

Speed: reading, decoding, augmentation and targets, as `centermask train --config` would have them, batches taken as
fast as they come; the median over windows of one batch from each worker, after the first ten. Once from files, and
once with train.cache, whose images are decoded before (sets of up to 1000 images). The files of such a set are read
once before, so that memory holds them: a slow disk is not what this measures. Not timed: the copy to a GPU.

Wait: a training whose steps take --step-ms asks for its next batch; the first one of an epoch against all others, for
this loader, whose workers know no epochs, and for one whose iterator is made anew each epoch, as is usual. Its start
is not counted. Default data: drawn shapes, 480 x 640 PNGs; real photographs (--data) are slower to decode.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from centermask.config import Config, load_config
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.data.loader import TrainingSet, training_loader
from centermask.data.synthetic import write_shapes
from centermask.data.training_steps import TrainingSteps
from centermask_runtime.speed import machine

CONFIG = Path(__file__).parents[1] / "configs" / "dla_34.yaml"
WARMUP = 10  # windows: a virtual machine is slow to give memory for the first batches
SMALL = 1000  # images


def images_a_second(dataset: Dataset, config: Config, windows: int) -> tuple[float, float, float]:
    """Quartiles of the images a second that one worker makes."""
    train = config.train
    plan = TrainingSteps(TrainingSet(dataset, config))
    batches = iter(training_loader(plan.samples, plan))
    if train.cache:  # each worker decodes for itself
        for _ in range(2 * max(train.workers, 1) * plan.steps_an_epoch):
            next(batches)
    a_window = max(train.workers, 1)
    rates = []
    for _ in range(WARMUP + windows):
        start = time.perf_counter()
        for _ in range(a_window):
            next(batches)
        rates.append(train.batch / (time.perf_counter() - start))
    low, median, high = np.percentile(rates[WARMUP:], (25, 50, 75)).tolist()
    return low, median, high


def waits(batches: Iterator[Any], count: int, step_s: float) -> list[float]:
    """Seconds that each of `count` steps waited for its batch."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        next(batches)
        times.append(time.perf_counter() - start)
        time.sleep(step_s)
    return times


def epoch_waits(dataset: Dataset, config: Config, epochs: int, step_s: float) -> dict[str, tuple[float, float]]:
    """Way -> median wait for the first batch of an epoch, and for the others; the first epoch is left out."""
    plan = TrainingSteps(TrainingSet(dataset, config))
    loader, steps = training_loader(plan.samples, plan), plan.steps_an_epoch
    across: list[list[float]] = []
    anew: list[list[float]] = []
    batches = iter(loader)
    for epoch in range(epochs):  # the ways take turns, so that a noisy machine disturbs both alike
        across.append(waits(batches, steps, step_s))
        plan.first_step = epoch * steps
        anew.append(waits(iter(loader), steps, step_s))
    named = {"across epochs": across, "made anew": anew}
    return {
        way: (
            statistics.median(times[0] for times in each[1:]),
            statistics.median(wait for times in each[1:] for wait in times[1:]),
        )
        for way, each in named.items()
    }


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), help="A data set folder; its split train is used.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), default=CONFIG, show_default=True)
@click.option("--imgsz", default=512, type=click.IntRange(64), show_default=True)
@click.option("--batch", default=8, type=click.IntRange(1), show_default=True)
@click.option("--workers", default=1, type=click.IntRange(0), show_default=True)
@click.option("--windows", default=20, type=click.IntRange(3), show_default=True)
@click.option("--images", default=48, type=click.IntRange(8), show_default=True, help="Drawn shapes, without --data.")
@click.option("--epochs", default=5, type=click.IntRange(2), show_default=True, help="Whose ends are timed.")
@click.option("--step-ms", default=500.0, show_default=True, help="A step of the training that waits.")
def main(
    data: Path | None, config_file: Path, imgsz: int, batch: int, workers: int, windows: int, images: int, epochs: int,
    step_ms: float,
) -> None:  # fmt: skip
    base = load_config(config_file, [f"input.size=[{imgsz}, {imgsz}]", f"train.batch={batch}"])
    base = dataclasses.replace(base, train=dataclasses.replace(base.train, workers=workers, epochs=1_000_000))
    cached = dataclasses.replace(base, train=dataclasses.replace(base.train, cache=True))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            data = Path(folder)
            write_shapes(data, images, seed=0, val_count=1, size_hw=(480, 640))
        dataset = load_dataset(find_split(data, "train"))
        if len(dataset) <= SMALL:
            for record in dataset.images:
                record.path.read_bytes()
        speed = {"from files": images_a_second(dataset, base, windows)}
        if len(dataset) <= SMALL:
            speed["cached"] = images_a_second(dataset, cached, windows)
        wait = epoch_waits(dataset, base, epochs, step_ms / 1e3)
    title = f"{imgsz} x {imgsz}, {workers} workers, batch {batch}, {len(dataset)} images"
    table = Table("images", "images/s a worker", "quartiles", title=title)
    for name, (low, median, high) in speed.items():
        table.add_row(name, f"{median:.1f}", f"{low:.1f}-{high:.1f}")
    gaps = Table("loader", "first batch of an epoch", "other batches", title=f"median wait, steps of {step_ms:g} ms")
    for way, (first, others) in wait.items():
        gaps.add_row(way, f"{first * 1e3:.1f} ms", f"{others * 1e3:.1f} ms")
    Console().print(table, gaps)
    line = {
        "benchmark": "loader", "size": imgsz, "workers": workers, "batch": batch, "images": len(dataset),
        "images_per_second_a_worker": {name: round(median, 2) for name, (_, median, _) in speed.items()},
        "wait_ms": {way: [round(first * 1e3, 2), round(others * 1e3, 2)] for way, (first, others) in wait.items()},
        "step_ms": step_ms, "machine": {**machine(), "torch": torch.__version__},
    }  # fmt: skip
    print(json.dumps(line, separators=(",", ":")))


if __name__ == "__main__":
    main()

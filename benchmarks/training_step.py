# SPDX-License-Identifier: Apache-2.0
"""What evaluating heads at objects only saves in training: time and peak memory of one step.

Sparse is the training step as it is: offset, size and shape are evaluated at the cells of the objects. Dense shape
evaluates the shape head on every cell and picks the objects' cells afterwards; all dense does so with offset and size
too, as the paper has it; as published is all dense in NCHW, gathered as CenterNet's code does (a transposed copy). Heat
map and saliency are dense in all. Recomputed is sparse with train.recompute. One step: forward, the five losses,
backward, clipping, Adam. DLA-34, 80 classes, class-specific saliency, S = 32, fp32; channels last but for the last way,
as the trainer has it.

Time: the ways take turns in one process, from the same weights, on the same batch; that they give the same loss is
checked first. Memory: the highest resident set of a process of its own that takes three steps, and what of it came
after model, optimizer and batch were there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from centermask.config import STRIDE, Config, InputConfig, ModelConfig, TrainConfig
from centermask.data.augment.affine import letterbox_affine
from centermask.data.dataset import ObjectMask
from centermask.data.loader import Batch, Sample, collate
from centermask.data.synthetic import draw_scene
from centermask.data.targets import make_targets
from centermask.model.heads import Head
from centermask.model.network import CenterMaskNet, TrainingOutputs, build_model
from centermask.training.losses import centermask_losses
from centermask_runtime.errors import UsageError
from centermask_runtime.speed import machine

CLASSES = 80
OBJECTS = 14  # at most an image: 7 on average, as in COCO
MEMORY_STEPS = 3  # the second one is the first that finds Adam's state in place
REQUIRED_SPEED, REQUIRED_MEMORY = 1.3, 0.7  # sparse against as published


@dataclass(frozen=True)
class Way:
    dense: tuple[str, ...] = ()  # heads on every cell, of those that sparse evaluates at objects
    nchw: bool = False
    recompute: bool = False


WAYS = {
    "sparse": Way(),
    "recomputed": Way(recompute=True),
    "dense shape": Way(("shape",)),
    "all dense": Way(("shape", "offset", "size")),
    "as published": Way(("shape", "offset", "size"), nchw=True),
}


class Step:
    """A model, its optimizer and one batch, ready to take training steps."""

    def __init__(self, size: int, batch: int, *, nchw: bool) -> None:
        torch.manual_seed(0)
        self.config = Config("dla_34", ModelConfig(), InputConfig((size, size)), TrainConfig(batch=batch))
        self.model = build_model(self.config, CLASSES).train()
        if nchw:  # images are channels last in memory, and convolutions keep what they get
            self.model.base.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        else:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-5)
        self.batch = drawn_batch(self.config)

    def loss(self, way: Way) -> Tensor:
        self.model.base.recompute = way.recompute
        outputs = outputs_of(self.model, self.batch, way.dense)
        return centermask_losses(outputs, self.batch, self.config.train.loss).total

    def take(self, way: Way) -> None:
        loss = self.loss(way)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip_norm)
        self.optimizer.step()


def outputs_of(model: CenterMaskNet, batch: Batch, dense: tuple[str, ...]) -> TrainingOutputs:
    if not dense:
        outputs: TrainingOutputs = model(batch.images, batch.image_index, batch.cells)
        return outputs
    features = model.features(batch.images)
    sparse = model.at_cells(features, batch.image_index, batch.cells)
    rows = batch.image_index * features[0, 0].numel() + batch.cells[:, 0] * features.shape[3] + batch.cells[:, 1]

    def pick(name: str) -> Tensor:
        """CenterNet's transpose and gather; the transposed copy is none where the map is channels last."""
        head = getattr(model, name)
        assert isinstance(head, Head)
        dense_map = head(features).permute(0, 2, 3, 1).contiguous()  # [N, h, w, outputs]
        picked: Tensor = dense_map.flatten(0, 2).index_select(0, rows)
        return picked

    replaced = sparse._replace(shapes=pick("shape").reshape(sparse.shapes.shape))
    return replaced if dense == ("shape",) else replaced._replace(offsets=pick("offset"), sizes=pick("size"))


def _object(label: int, mask: NDArray[np.bool_]) -> ObjectMask:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    return ObjectMask(label, (x0, y0, x1, y1), mask[y0:y1, x0:x1], crowd=False)


def drawn_batch(config: Config) -> Batch:
    """Drawn shapes, whose three classes are spread over all."""
    height, width = config.input.size
    rng = np.random.default_rng(0)
    samples: list[Sample] = []
    for _ in range(config.train.batch):
        image, drawn = draw_scene(rng, config.input.size, OBJECTS)
        objects = [_object(int(rng.integers(CLASSES)), mask) for _, mask in drawn]
        targets = make_targets(
            objects, letterbox_affine((height, width), (height, width)), (height, width), num_classes=CLASSES,
            saliency_channels=CLASSES, stride=STRIDE, mask_grid=config.train.loss.mask_grid,
        )  # fmt: skip
        samples.append((image, targets))
    batch = collate(samples)
    assert isinstance(batch, Batch)
    return batch


# ---- time -----------------------------------------------------------------------------------------------------------


def measure_time(steps: dict[str, Step], rounds: int) -> dict[str, tuple[float, float, float]]:
    """Quartiles of each way's milliseconds, in turns; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(1 + rounds):
        for name, way in WAYS.items():
            start = time.perf_counter()
            steps[name].take(way)
            if turn:
                times[name].append((time.perf_counter() - start) * 1e3)
    quartiles = {name: np.percentile(values, (25, 50, 75)).round(1).tolist() for name, values in times.items()}
    return {name: (low, median, high) for name, (low, median, high) in quartiles.items()}


def require_equal(steps: dict[str, Step]) -> None:
    """All ways give the same loss on the same weights; a benchmark of different results would say nothing."""
    with torch.no_grad():
        losses = [steps[name].loss(way).item() for name, way in WAYS.items()]
    assert max(losses) - min(losses) < 1e-4 * losses[0], losses


# ---- memory ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    peak_mib: float  # of the whole process
    steps_mib: float  # of that, what the steps took on top of model, optimizer and batch


def _status(key: str) -> float:
    """VmRSS or VmHWM of this process in MiB. Not getrusage: its peak includes the parent's, from before exec."""
    path = Path("/proc/self/status")
    if not path.exists():
        raise UsageError(f"Peak memory is read from {path}, which only Linux has; use --no-memory.")
    line = next(line for line in path.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def measure_memory_here(size: int, batch: int, way: Way) -> Memory:
    step = Step(size, batch, nchw=way.nchw)
    before = _status("VmRSS")
    for _ in range(MEMORY_STEPS):
        step.take(way)
    peak = _status("VmHWM")
    return Memory(round(peak, 1), round(peak - before, 1))


def measure_memory(size: int, batch: int, threads: int, way: str) -> Memory:
    """In a process of its own, as the peak of a process never falls."""
    command = [sys.executable, __file__, "--size", str(size), "--batch", str(batch), "--threads", str(threads)]
    ran = subprocess.run([*command, "--only-memory-of", way], check=True, stdout=subprocess.PIPE, text=True)
    return Memory(**json.loads(ran.stdout))


# ---- report ---------------------------------------------------------------------------------------------------------


def table_of(
    times: dict[str, tuple[float, float, float]], memory: dict[str, Memory], size: int, batch: int, objects: int
) -> Table:
    table = Table(title=f"DLA-34 training step, {CLASSES} classes, {size} x {size}, batch {batch}, {objects} objects")
    for heading in ("heads", "median ms", "quartiles", "time", "peak MiB", "steps MiB", "memory"):
        table.add_column(heading, justify="left" if heading == "heads" else "right", no_wrap=True)
    first = next(iter(times))
    for way, (low, median, high) in times.items():
        cells = [way, f"{median:.0f}", f"{low:.0f}-{high:.0f}", f"{median / times[first][1]:.2f}x"]
        if memory:
            part = memory[way].steps_mib / memory[first].steps_mib
            cells += [f"{memory[way].peak_mib:.0f}", f"{memory[way].steps_mib:.0f}", f"{part:.2f}x"]
        table.add_row(*cells)
    return table


@click.command(help=__doc__)
@click.option("--rounds", default=7, type=click.IntRange(1), show_default=True)
@click.option("--threads", default=2, type=click.IntRange(1), show_default=True)
@click.option("--size", default=512, type=click.IntRange(64), show_default=True, help="Input side, a multiple of 32.")
@click.option("--batch", default=4, type=click.IntRange(1), show_default=True)
@click.option(
    "--memory/--no-memory", default=True, show_default=True, help="Measure it too, in processes of their own."
)
@click.option(
    "--check",
    is_flag=True,
    help=f"Exit with 1 unless sparse is {REQUIRED_SPEED} times as fast as published, with steps of at most "
    f"{REQUIRED_MEMORY} of its memory.",
)
@click.option("--only-memory-of", type=click.Choice(list(WAYS)), hidden=True)
def main(
    rounds: int, threads: int, size: int, batch: int, memory: bool, check: bool, only_memory_of: str | None
) -> None:
    torch.set_num_threads(threads)
    if only_memory_of is not None:
        click.echo(json.dumps(asdict(measure_memory_here(size, batch, WAYS[only_memory_of]))))
        return
    peaks = {way: measure_memory(size, batch, threads, way) for way in WAYS} if memory else {}
    layouts = {nchw: Step(size, batch, nchw=nchw) for nchw in (False, True)}
    steps = {name: layouts[way.nchw] for name, way in WAYS.items()}
    require_equal(steps)
    times = measure_time(steps, rounds)
    objects = len(steps["sparse"].batch.labels)
    Console().print(table_of(times, peaks, size, batch, objects))
    speed = times["as published"][1] / times["sparse"][1]
    share = peaks["sparse"].steps_mib / peaks["as published"].steps_mib if peaks else None
    facts = {
        "benchmark": "training_step", "size": size, "batch": batch, "threads": threads, "rounds": rounds,
        "objects": objects, "milliseconds": times,
        "memory": {way: asdict(one) for way, one in peaks.items()},
        "speed_up": round(speed, 3), "memory_share": None if share is None else round(share, 3), **machine(),
    }  # fmt: skip
    click.echo(json.dumps(facts))
    if check and (speed < REQUIRED_SPEED or (share is not None and share > REQUIRED_MEMORY)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

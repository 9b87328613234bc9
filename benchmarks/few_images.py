# SPDX-License-Identifier: Apache-2.0
"""What a recipe makes of 10, 20, 50 and 200 labelled images: from starting weights, and beside it from scratch.

    python benchmarks/few_images.py --annotations person_train2017.json --images coco/train2017 \
        --val-annotations person_val2017.json --val-images coco/val2017 \
        --weights coco_person_mobilenet_v2_fpn.safetensors --set model.backbone=mobilenet_v2_fpn

The images of a row are drawn by --seed, those of a smaller row are among those of a larger one, and each shows an
object. Both trainings of a row are of the same length; from scratch nothing is frozen and all learns at one rate. AP is
that of the exported ONNX file on all validation images, by pycocotools. Seconds are from start to end of `train`, with
its validations; CPU seconds are those of all its processes, which depend less on what else the machine does.

Runs go to --output; one that is finished there is read, not trained again, so a stopped benchmark goes on.
"""

from __future__ import annotations

import csv
import json
import random
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markdown import Markdown

from centermask_runtime.partial_file import write_whole
from centermask_runtime.speed import machine

RESULTS = Path(__file__).parent / "results" / "few_images.json"
COUNTS = (10, 20, 50, 200)
STARTS = ("weights", "scratch")
FROM_SCRATCH = ("model.freeze=0", "train.base_lr=1", "train.started_lr=1")
FOUND_NOTHING = 4  # exit code of such a training, whose files are all there


@dataclass(frozen=True)
class Benchmark:
    """What all trainings have in common."""

    config: str
    annotations: Path
    images: Path
    val_annotations: Path
    val_images: Path
    weights: str
    seed: int
    overrides: tuple[str, ...]
    output: Path


@click.command()
@click.option("--config", default="finetune", show_default=True, help="A config by name, or a YAML file.")
@click.option("--annotations", type=click.Path(path_type=Path), required=True, help="COCO JSON to draw images from.")
@click.option("--images", type=click.Path(path_type=Path), required=True, help="Their folder.")
@click.option("--val-annotations", type=click.Path(path_type=Path), required=True, help="COCO JSON to measure on.")
@click.option("--val-images", type=click.Path(path_type=Path), required=True, help="Their folder.")
@click.option("--weights", required=True, help="What the first training of each row starts from, as of `train`.")
@click.option("--count", "counts", type=click.IntRange(1), multiple=True, default=COUNTS, show_default=True)
@click.option("--start", "starts", type=click.Choice(STARTS), multiple=True, default=STARTS, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the images and of the trainings.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="For all trainings, as in train.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/few_images"), show_default=True)
@click.option("--json", "results", type=click.Path(path_type=Path), default=RESULTS, help="Where the numbers go.")
def main(counts: tuple[int, ...], starts: tuple[str, ...], results: Path, **settings: Any) -> None:
    """What a recipe makes of 10, 20, 50 and 200 labelled images."""
    benchmark = Benchmark(**settings)
    rows: list[dict[str, Any]] = []
    for count in counts:
        subset = benchmark.output / f"train_{count}.json"
        content = draw_images(json.loads(benchmark.annotations.read_text()), count, benchmark.seed)
        write_whole(subset, json.dumps(content).encode())
        for start in starts:
            drawn = {"images": len(content["images"]), "objects": len(content["annotations"]), "start": start}
            rows.append(drawn | _measured(benchmark, subset, count, start))
            settings_shown = {key: str(value) for key, value in asdict(benchmark).items() if key != "output"}
            report = {"machine": machine(), **settings_shown, "rows": rows}
            write_whole(results, json.dumps(report, indent=1).encode() + b"\n")  # what is done by now
    Console().print(Markdown(markdown(rows)))


def draw_images(content: dict[str, Any], count: int, seed: int) -> dict[str, Any]:
    """Keeps `count` images of a COCO file that show an object, and their annotations."""
    shown = {one["image_id"] for one in content["annotations"] if not one.get("iscrowd")}
    ids = sorted(image["id"] for image in content["images"] if image["id"] in shown)
    random.Random(seed).shuffle(ids)
    kept = set(ids[:count])
    images = [image for image in content["images"] if image["id"] in kept]
    annotations = [one for one in content["annotations"] if one["image_id"] in kept]
    return {**content, "images": images, "annotations": annotations}


def _measured(benchmark: Benchmark, subset: Path, count: int, start: str) -> dict[str, Any]:
    """Trains, exports and measures, or reads the file that marks a run as done."""
    run = benchmark.output / f"{start}_{count}_seed{benchmark.seed}"
    done = run / "few_images.json"
    if not done.exists():
        shutil.rmtree(run, ignore_errors=True)
        val = ("--val-annotations", benchmark.val_annotations, "--val-images", benchmark.val_images)
        overrides = (*benchmark.overrides, *(FROM_SCRATCH if start == "scratch" else ()))
        sets = [word for override in overrides for word in ("--set", override)]
        weights = ("--weights", benchmark.weights) if start == "weights" else ()
        began, cpu_before = time.monotonic(), _cpu_s()
        _centermask(
            "train", "--config", benchmark.config, "--annotations", subset, "--images", benchmark.images, *val,
            *weights, "--seed", benchmark.seed, "--output", run.parent, "--name", run.name, "--device", "cpu", *sets,
            allowed=(FOUND_NOTHING,),
        )  # fmt: skip
        seconds, cpu_s = time.monotonic() - began, _cpu_s() - cpu_before
        _centermask("export", "--model", run / "weights" / "best.safetensors", "--output", run / "best.onnx")
        measured = _centermask(
            "val", "--model", run / "best.onnx", "--annotations", benchmark.val_annotations, "--images",
            benchmark.val_images, "--json",
        )  # fmt: skip
        metrics = json.loads(measured.splitlines()[-1])
        last = list(csv.DictReader((run / "results.csv").read_text().splitlines()))[-1]
        row = {"steps": int(last["step"]), "seconds": round(seconds), "cpu_s": round(cpu_s)}
        row |= {f"{kind} {name}": metrics[kind][name] for kind in ("bbox", "segm") for name in ("AP", "AP50")}
        write_whole(done, json.dumps(row).encode())
    found: dict[str, Any] = json.loads(done.read_text())
    return found


def _cpu_s() -> float:
    """Seconds of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _centermask(*arguments: Any, allowed: tuple[int, ...] = ()) -> str:
    """What the command prints; its progress and errors go where this program's go."""
    command = [sys.executable, "-m", "centermask", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode and done.returncode not in allowed:
        sys.exit(done.returncode)
    return done.stdout


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table with AP in per cent."""
    lines = [
        "| images | objects | start | steps | box AP | mask AP | mask AP50 | minutes | CPU minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        aps = " | ".join(f"{100 * row[name]:.1f}" for name in ("bbox AP", "segm AP", "segm AP50"))
        times = f"{row['seconds'] / 60:.1f} | {row['cpu_s'] / 60:.1f}"
        start = {"weights": "published weights", "scratch": "from scratch"}[row["start"]]
        lines.append(f"| {row['images']} | {row['objects']} | {start} | {row['steps']} | {aps} | {times} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

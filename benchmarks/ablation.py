# SPDX-License-Identifier: Apache-2.0
"""What each switch of the training is worth: one training a row, all else and the seed the same.

    python benchmarks/ablation.py --config configs/dla_46c.yaml --data datasets/nuclei --epochs 30

The first row is the config as it is with every switch off; each other row turns one on. Runs go to --output; one that
is there and finished is read, not trained again, so a stopped ablation goes on. Writes ablation.json and ablation.md.
With one seed the difference between two rows is also chance: --seeds 3 gives mean and spread.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markdown import Markdown

from centermask_runtime.partial_file import write_whole

OFF = ("train.multi_scale=0", "train.repeat_threshold=0", "train.augment.mosaic=0", "train.augment.copy_paste=0")
SWITCHES: dict[str, tuple[str, ...]] = {
    "baseline": (),
    "no flip": ("train.augment.flip=0", "train.augment.flip_vertical=0"),
    "no scale": ("train.augment.scale=[1, 1]",),
    "no colour": ("train.augment.colour=0", "train.augment.invert=0"),
    "no average of weights": ("train.ema=0",),
    "multi-scale": ("train.multi_scale=0.25",),
    "mosaic": ("train.augment.mosaic=0.5",),
    "copy-paste": ("train.augment.copy_paste=0.5",),
    "class-balanced": ("train.repeat_threshold=0.1",),
}
COLUMNS = ("bbox AP", "bbox AP50", "segm AP", "segm AP50")


@dataclass(frozen=True)
class Ablation:
    config: str
    data: str
    epochs: int | None
    seeds: int
    overrides: Sequence[str]


@click.command()
@click.option("--config", required=True, help="A YAML file; its own switches are turned off for the first row.")
@click.option("--data", required=True, help="A data set with the splits train and val.")
@click.option("--epochs", type=int, help="Instead of the config's.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Trainings a row.")
@click.option("--only", type=click.Choice(list(SWITCHES)), multiple=True, help="This row; again for more.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="For all rows, as in train.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/ablation"), show_default=True)
def main(
    config: str, data: str, epochs: int | None, seeds: int, only: tuple[str, ...], overrides: tuple[str, ...],
    output: Path,
) -> None:  # fmt: skip
    """What each switch of the training is worth: one training a row, all else and the seed the same."""
    ablation = Ablation(config, data, epochs, seeds, overrides)
    table: dict[str, list[dict[str, float]]] = {}
    for name in only or SWITCHES:
        table[name] = [_metrics(ablation, output, name, seed) for seed in range(seeds)]
        rows = {row: {"set": SWITCHES[row], "metrics": runs} for row, runs in table.items()}
        write_whole(output / "ablation.json", json.dumps({**asdict(ablation), "rows": rows}, indent=1).encode())
        write_whole(output / "ablation.md", _markdown(table).encode())  # what is done by now
    Console().print(Markdown(_markdown(table)))


def _metrics(ablation: Ablation, output: Path, name: str, seed: int) -> dict[str, float]:
    """AP of one training's best weights, from the file that marks it as finished."""
    folder = output / f"{name.replace(' ', '_')}_{seed}"
    done = folder / "metrics.json"
    if not done.exists():
        arguments: list[Any] = ["--resume", folder]
        if not (folder / "checkpoint.pt").exists():
            shutil.rmtree(folder, ignore_errors=True)  # stopped before its first checkpoint
            epochs = [] if ablation.epochs is None else ["--epochs", ablation.epochs]
            sets = [word for value in (*OFF, *ablation.overrides, *SWITCHES[name]) for word in ("--set", value)]
            arguments = ["--config", ablation.config, "--data", ablation.data, "--output", output]
            arguments += ["--name", folder.name, "--seed", seed, *epochs, *sets]
        _centermask("train", *arguments)
        measured = _centermask("val", "--model", folder / "weights/best.safetensors", "--data", ablation.data, "--json")
        write_whole(done, measured.splitlines()[-1].encode())
    content = json.loads(done.read_text())
    return {column: content[column.split()[0]][column.split()[1]] for column in COLUMNS}


def _centermask(*arguments: Any) -> str:
    """What the command prints; its progress and errors go where this program's go."""
    command = [sys.executable, "-m", "centermask", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def _markdown(table: dict[str, list[dict[str, float]]]) -> str:
    """AP in per cent; in brackets the difference of the mask AP to the first row."""
    lines = [f"| training | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    first = statistics.mean(run["segm AP"] for run in next(iter(table.values())))
    for name, runs in table.items():
        cells = []
        for column in COLUMNS:
            values = [100 * run[column] for run in runs]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            change = (
                f" ({statistics.mean(values) - 100 * first:+.1f})" if column == "segm AP" and len(lines) > 2 else ""
            )
            cells.append(f"{statistics.mean(values):.1f}{spread}{change}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

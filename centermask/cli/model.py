# SPDX-License-Identifier: Apache-2.0
"""`centermask model`: what the model of a config costs, and what a weights file would bring to it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
from rich.console import Console

from centermask.cli.completion import complete_config
from centermask.cli.tables import cost_table, weights_table
from centermask.config import load_config
from centermask_runtime.packages import need

COCO_CLASSES = 80


@click.command()
@click.argument("config", type=click.Path(path_type=Path), shell_complete=complete_config)
@click.option("--imgsz", type=click.IntRange(min=1), help="Side of the square input in pixels (input.size).")
@click.option("--classes", type=click.IntRange(min=1), default=COCO_CLASSES, show_default=True, help="Of the heads.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any other value of the config; may be repeated."
)
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Also say which tensors of this file would start a training."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the tables.")
def model(
    config: Path, imgsz: int | None, classes: int, overrides: tuple[str, ...], weights: Path | None, as_json: bool
) -> None:
    """Show the parameters and GFLOP of a config, part by part.

    GFLOP are counted twice: with the heads on every cell, and with sparse heads as inference runs them.
    """
    need("torch", "train", "building a model")
    from centermask.model.cost import model_cost  # these need torch
    from centermask.model.network import build_model
    from centermask.model.pretrained import load_starting_weights

    square = () if imgsz is None else (f"input.size=[{imgsz}, {imgsz}]",)
    settings = load_config(config, (*square, *overrides))
    cost = model_cost(settings, classes)
    report = None if weights is None else load_starting_weights(build_model(settings, classes), weights)
    if as_json:
        facts = dataclasses.asdict(cost) | {"total": dataclasses.asdict(cost.total)}
        click.echo(json.dumps(facts if report is None else facts | {"weights": dataclasses.asdict(report)}))
        return
    Console().print(cost_table(cost))
    if report is not None:
        Console().print(weights_table(report))

# SPDX-License-Identifier: Apache-2.0
"""`centermask datasets`: what lies where --data looks names up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from centermask_runtime.errors import DataError
from centermask_runtime.packages import need


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the table.")
def datasets(folder: Path | None, as_json: bool) -> None:
    """List the data sets in a folder.

    FOLDER is by default CENTERMASK_DATASETS, else DETECTRON2_DATASETS, else ./datasets.
    """
    need("pycocotools", "train", "reading data sets")
    from centermask.data.formats.layouts import ROOT_VARIABLES, dataset_root  # needs an extra

    root = dataset_root() if folder is None else folder
    if not root.is_dir():
        raise DataError(f"There is no folder {root}: set {ROOT_VARIABLES[0]} to the folder of your data sets.")
    with Console(stderr=True).status(f"Reading {root}"):
        rows = [row for place in (root, *sorted(root.iterdir())) if place.is_dir() for row in _splits_of(place, root)]
    if as_json:
        click.echo(json.dumps({"root": str(root), "datasets": rows}))
        return
    table = Table("data set", "layout", "split", "images", "objects", "classes", title=f"Data sets in {root}")
    for row in rows:
        numbers = [row["error"], ""] if "error" in row else [f"{row[key]:,}" for key in ("images", "objects")]
        cells = row["name"], row["layout"], row["split"], *numbers, _some(row.get("classes", ()))
        table.add_row(*map(escape, cells))
    Console().print(table if rows else f"No data set in {root}: see docs/datasets.md for the layouts.")


def _splits_of(place: Path, root: Path) -> list[dict[str, Any]]:
    from centermask.data.dataset import load_dataset  # this and the next need an extra
    from centermask.data.formats.layouts import recognise

    name = "." if place == root else place.name
    try:
        splits = recognise(place)
    except DataError as error:
        return [{"name": name, "layout": "?", "split": "", "error": str(error)}]
    rows: list[dict[str, Any]] = []
    for split in splits:
        row = {"name": name, "layout": split.layout.name, "split": split.name, "annotations": str(split.annotations)}
        try:
            dataset = load_dataset(split)
        except DataError as error:
            rows.append({**row, "error": str(error)})
            continue
        objects = sum(len(dataset.labels(index)) for index in range(len(dataset)))
        rows.append({**row, "images": len(dataset), "objects": objects, "classes": list(dataset.class_names)})
    return rows


def _some(names: list[str]) -> str:
    return f"{len(names)}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}" if names else ""

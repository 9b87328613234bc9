# SPDX-License-Identifier: Apache-2.0
"""`centermask doctor`: what is wrong with a data set, before a training finds out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from centermask.cli.tables import loop_bar
from centermask.data.doctor.findings import KINDS, Severity
from centermask_runtime.errors import UsageError
from centermask_runtime.packages import need

if TYPE_CHECKING:
    from centermask.data.doctor.examine import Report
    from centermask.data.formats.layouts import Split

FAILED = 3  # the exit code of a DataError
COLOURS = {"error": "red", "warning": "yellow", "hint": "cyan"}


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="A data set: folder, YOLO data.yaml, or name.")
@click.option(
    "--split", "splits", multiple=True,
    help="Only this one; may be given again (default: all, but no trainval beside train and val).",
)  # fmt: skip
@click.option("--annotations", type=click.Path(path_type=Path), help="A COCO JSON file, instead of --data.")
@click.option("--images", type=click.Path(path_type=Path), help="With --annotations: the folder of its images.")
@click.option("--strict", is_flag=True, help="Exit with 3 on warnings, too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the tables.")
def doctor(
    data: Path | None, splits: tuple[str, ...], annotations: Path | None, images: Path | None, strict: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Find the mistakes in a data set. Exits with 0 when it is sound, 3 on errors."""
    if (data is None) == (annotations is None) or (annotations is None) != (images is None):
        raise UsageError("Name the data set by --data FOLDER, or by --annotations FILE with --images FOLDER.")
    if splits and annotations is not None:
        raise UsageError("--split names parts of a --data folder; leave it out where --annotations names the file.")
    need("pycocotools", "train", "reading data sets")
    from centermask.data.doctor.examine import examine  # this and the next need an extra
    from centermask.data.formats.layouts import Split, find_dataset

    if data is not None:
        chosen = _splits_of(find_dataset(data), splits)
    else:
        assert annotations is not None and images is not None
        chosen = [Split.of_files(annotations, images)]
    with loop_bar() as progress:
        report = examine(chosen, progress)
    errors, warnings = (report.findings.count(one) for one in (Severity.ERROR, Severity.WARNING))
    name = str(data or annotations)
    if as_json:
        click.echo(json.dumps(_as_json(name, report)))
    else:
        _print(name, report, Console())
    if errors or (strict and warnings):
        sys.exit(FAILED)


def _splits_of(place: Path, names: tuple[str, ...]) -> list[Split]:
    """The splits of these names; without any, all of the data set."""
    from centermask.data.formats.layouts import find_split, recognise  # need an extra

    if not names:
        names = tuple(dict.fromkeys(split.name for split in recognise(place))) or ("val",)  # which find_split misses
        if {"train", "val"} <= set(names):  # VOC's list of both would be a leakage of all images
            names = tuple(name for name in names if name != "trainval")
    return list({split.name: split for split in (find_split(place, name) for name in names)}.values())


def _as_json(name: str, report: Report) -> dict[str, Any]:
    return {
        "data": name,
        "splits": {
            split: {"images": count, "objects": sum(report.objects[split].values()), "classes": report.objects[split]}
            for split, count in report.images.items()
        },
        "findings": [
            {
                "kind": one.kind, "severity": one.severity, "count": one.count, "says": KINDS[one.kind].says,
                "advice": KINDS[one.kind].advice, "examples": one.examples,
            }
            for one in report.findings
        ],
        **{f"{severity}s": report.findings.count(severity) for severity in Severity},
    }  # fmt: skip


def _print(name: str, report: Report, console: Console) -> None:
    overview = Table("split", "images", "objects", "classes", "most", "fewest", title=name, title_justify="left")
    for split, images in report.images.items():
        ranked = report.objects[split].most_common()
        ends = [f"{label} {count:,}" for label, count in (ranked[0], ranked[-1])] if ranked else ["", ""]
        overview.add_row(split, f"{images:,}", f"{sum(report.objects[split].values()):,}", f"{len(ranked)}", *ends)
    console.print(overview)
    table = Table("", "finding", "count", "first examples", "what to do", show_lines=True)
    for one in report.findings:
        kind, colour = KINDS[one.kind], COLOURS[one.severity]
        table.add_row(
            f"[{colour}]{one.severity}[/]",
            f"{kind.says}\n[dim]{one.kind}[/]",
            f"{one.count:,}",
            escape("\n".join(one.examples)),
            kind.advice,
        )
    if table.row_count:
        console.print(table)
    counted = ", ".join(f"{report.findings.count(severity):,} {severity}s" for severity in Severity)
    console.print(counted if table.row_count else f"Nothing to find fault with: {counted}.")

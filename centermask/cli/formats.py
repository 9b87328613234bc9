# SPDX-License-Identifier: Apache-2.0
"""`centermask formats`: what a model can be exported to, what each format needs, and what is installed here."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from centermask_export.formats import FORMATS, Format
from centermask_runtime.cuda.facts import gpus
from centermask_runtime.packages import install_command


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line instead of the table.")
def formats(as_json: bool) -> None:
    """List the export formats, and which can be written here.

    With their files, their precisions, and where they run.
    """
    here = {name: _here(kind) for name, kind in FORMATS.items()}
    if as_json:
        click.echo(json.dumps({"formats": [_facts(kind, *here[name]) for name, kind in FORMATS.items()]}))
        return
    what = Table("format", "file", "precisions", "graphs", "dynamic")
    where = Table("format", "runs on", "can be written here")
    for name, kind in FORMATS.items():
        versions, missing = here[name]
        own = kind.packages[-1]
        what.add_row(
            name, kind.files, ", ".join(kind.precisions), ", ".join(kind.graphs), ", ".join(kind.dynamic) or "-"
        )
        where.add_row(name, kind.runs_on, escape(f"no: needs {missing}") if missing else f"yes: {own} {versions[own]}")
    Console().print(what, where)
    click.echo("Write one: centermask export --model MODEL --format FORMAT. Compare two: centermask compare A B.")


def _facts(kind: Format, versions: dict[str, str | None], missing: str) -> dict[str, Any]:
    return {
        "format": kind.name, "file": kind.files, "packages": kind.packages, "extra": kind.extra,
        "needs_gpu": kind.needs_gpu, "runs_on": kind.runs_on, "precisions": kind.precisions, "graphs": kind.graphs,
        "dynamic": kind.dynamic, "installed": versions, "missing": missing or None, "ready": not missing,
    }  # fmt: skip


def _here(kind: Format) -> tuple[dict[str, str | None], str]:
    """Installed versions, and what is missing to write the format, in words; empty where nothing is."""
    versions: dict[str, str | None] = {}
    for package in kind.packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    absent = [package for package, number in versions.items() if number is None]
    needed = [f"{', '.join(absent)} ({install_command(kind.extra)})"] if absent else []
    if kind.needs_gpu and not gpus():
        needed.append("an NVIDIA GPU with its driver")
    return versions, " and ".join(needed)

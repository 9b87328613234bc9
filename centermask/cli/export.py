# SPDX-License-Identifier: Apache-2.0
"""`centermask export`: weights to ONNX, checked against the weights on real images before anyone uses it."""

from __future__ import annotations

from pathlib import Path

import click

from centermask.cli.options import find_model, model_option, require_export
from centermask_runtime.errors import ModelError


@click.command()
@model_option
@click.option("--format", "format_", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Default: beside the weights; the current folder for a released model.",
)
@click.option("--opset", type=int, help="ONNX operator set (default: the lowest that is supported).")
@click.option(
    "--batch",
    type=int,
    default=1,
    show_default=True,
    help="Images a run, fixed in the graph; val, predict and benchmark run models of batch 1 only.",
)
@click.option("--source", type=click.Path(path_type=Path), help="Images for the parity check (default: two that ship).")
@click.option("--json", "as_json", is_flag=True, help="Print the parity report as one JSON line, last.")
def export(
    model: str, format_: str, output: Path | None, opset: int | None, batch: int, source: Path | None, as_json: bool
) -> None:
    """Export a model; ends with a parity table, and with exit code 5 when the artefact differs from its source."""
    require_export()
    from centermask_export.export import export_checked
    from centermask_export.parity import ParityError
    from centermask_export.to_onnx import DEFAULT_OPSET

    weights = find_model(model)
    if weights.suffix != ".safetensors":
        raise ModelError(f"{weights} is exported already; --model takes the .safetensors weights it came from.")
    beside = weights.parent if weights == Path(model) else Path()  # a released model's folder is the package's
    target = output or beside / f"{weights.stem}.onnx"
    failure: ParityError | None = None
    try:
        report = export_checked(
            weights, target, opset=DEFAULT_OPSET if opset is None else opset, batch=batch, source=source
        )
    except ParityError as error:
        failure, report = error, error.report
    from rich.console import Console

    from centermask.cli.display import parity_table

    Console(stderr=as_json).print(parity_table(report, target))
    if as_json:
        import dataclasses
        import json

        click.echo(
            json.dumps({**dataclasses.asdict(report), "ok": report.ok, "output": str(target) if report.ok else None})
        )
    if failure is not None:
        raise failure

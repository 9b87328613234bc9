# SPDX-License-Identifier: Apache-2.0
"""The table of all commands, and the group that imports a command's module only when that command is used.

So `centermask --help` is quick, and a command's file can import what it needs at its top.
"""

from __future__ import annotations

import importlib
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem

from centermask.cli.suggestions import unknown_command, wrong_form


class Entry(NamedTuple):
    """One line of the table."""

    module: str  # holds the command, under the command's name
    help: str  # the first sentence of the command's docstring, without the full stop; it fits a terminal of 80 columns


COMMANDS = {  # in the order in which they are listed
    "train": Entry("centermask.cli.train", "Train a model on a data set"),
    "val": Entry("centermask.cli.val", "Measure the box and mask AP of a model on a data set"),
    "predict": Entry("centermask.cli.predict", "Find the objects in images or a video, and draw them"),
    "export": Entry("centermask.cli.export", "Export a model to ONNX, OpenVINO, TensorRT and more"),
    "formats": Entry("centermask.cli.formats", "List the export formats, and which can be written here"),
    "compare": Entry("centermask.cli.compare", "Compare two artefacts, such as weights and their ONNX file"),
    "benchmark": Entry("centermask.cli.benchmark", "Measure the FPS and stage times of a model on a video"),
    "visualize": Entry("centermask.cli.visualize", "Draw results beside the ground truth"),
    "datasets": Entry("centermask.cli.datasets", "List the data sets in a folder"),
    "doctor": Entry("centermask.cli.doctor", "Find the mistakes in a data set"),
    "download": Entry("centermask.cli.download", "Download COCO 2017, VOC 2012 or SBD"),
    "model": Entry("centermask.cli.model", "Show the parameters and GFLOP of a config, part by part"),
    "checks": Entry("centermask.cli.checks", "Show the versions, extras and GPU of this machine"),
    "demo": Entry("centermask.cli.demo", "Take a released model all the way on the sample pictures"),
}


class CommandTable(click.Group):
    """A click group whose commands are the rows of COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(COMMANDS[cmd_name].module), cmd_name)
        assert isinstance(command, click.Command), command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that is to run. Raises click.UsageError, with what may have been meant."""
        if args[0] not in COMMANDS:
            ctx.fail(unknown_command(args[0], list(COMMANDS)))
        name, command, rest = super().resolve_command(ctx, args)
        assert command is not None
        mistake = wrong_form(rest, command)
        if mistake and not ctx.resilient_parsing:
            raise click.UsageError(mistake, click.Context(command, ctx, info_name=name))
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands from the table, so that nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes the names of commands from the table, and the group's own options."""
        names = [
            CompletionItem(name, help=entry.help) for name, entry in COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

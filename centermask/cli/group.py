# SPDX-License-Identifier: Apache-2.0
"""The group that imports a command's module only when that command is used.

So `centermask --help` is quick, and a command's file can import what it needs at its top.
"""

from __future__ import annotations

import importlib

import click
from click.shell_completion import CompletionItem

from centermask.cli.commands import COMMANDS
from centermask.cli.suggestions import unknown_command, wrong_form


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
        examples = "\n".join(f"  {line}" for line in COMMANDS[cmd_name].examples)
        command.epilog = f"\b\nExamples:\n{examples}"  # \b: lines stay as they are
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that is to run. Raises click.UsageError, with what may have been meant."""
        if ctx.resilient_parsing:  # the shell asks for completions of an unfinished line
            return super().resolve_command(ctx, args)
        if args[0] not in COMMANDS:
            ctx.fail(unknown_command(args[0], list(COMMANDS)))
        name, command, rest = super().resolve_command(ctx, args)
        mistake = None if command is None else wrong_form(rest, command)
        if command is not None and mistake is not None:
            raise click.UsageError(mistake, click.Context(command, ctx, info_name=name))
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands from the table, so that nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, row.help) for name, row in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes the names of commands from the table, and the group's own options."""
        names = [CompletionItem(name, help=row.help) for name, row in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

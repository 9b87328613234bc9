# SPDX-License-Identifier: Apache-2.0
"""The `centermask` command: the group of all commands, and what becomes of errors and signals."""

from __future__ import annotations

import sys

import click

from centermask.cli.group import CommandTable
from centermask.cli.suggestions import unknown_option
from centermask.version import __version__
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.interrupt import Terminated

INTERRUPTED, TERMINATED = 130, 143  # 128 + SIGINT and 128 + SIGTERM, as shells have it


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="centermask")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """CenterMask: real-time instance segmentation, from a COCO-format data set to a running product."""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and exits: 0 ok, 1 runtime, 2 usage, 3 data, 4 model, 5 export."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--debug" in arguments:  # anywhere on the line, as people add it to the end of a command that failed
        arguments = ["--debug", *(argument for argument in arguments if argument != "--debug")]
    try:
        cli.main(arguments, prog_name="centermask", standalone_mode=False)
    except click.NoSuchOption as error:
        command = cli if error.ctx is None else error.ctx.command
        click.UsageError(unknown_option(error.option_name, command), error.ctx).show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt) as stopped:
        click.echo("Stopped.", err=True)
        first = stopped.__cause__ or stopped  # click makes an Abort of it
        sys.exit(TERMINATED if isinstance(first, Terminated) else INTERRUPTED)
    except CenterMaskError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)

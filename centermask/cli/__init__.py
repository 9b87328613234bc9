# SPDX-License-Identifier: Apache-2.0
"""The `centermask` command: the group of all commands, and what becomes of errors and signals."""

from __future__ import annotations

import errno
import os
import sys

import click

from centermask.cli.group import CommandTable
from centermask.cli.suggestions import unknown_option
from centermask.version import __version__
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.interrupt import Terminated

NO_STDOUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO)  # full, closed, or gone
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
    except OSError as error:
        if "--debug" in arguments or error.filename is not None or error.errno not in NO_STDOUT:
            raise
        click.echo(f"Error: The standard output cannot be written on ({error.strerror}): see where it goes.", err=True)
        _leave_stdout()
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt) as stopped:
        click.echo("Stopped.", err=True)
        first = stopped.__cause__ or stopped  # click makes an Abort of it
        sys.exit(TERMINATED if isinstance(first, Terminated) else INTERRUPTED)
    except CenterMaskError as error:
        if "--debug" in arguments:
            raise
        click.echo(f"Error: {error}", err=True)
        _leave_stdout()
        sys.exit(error.exit_code)


def _leave_stdout() -> None:
    """Where it cannot be written on, what is left for it goes: Python would try once more at its end and say so."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        if nothing != sys.stdout.fileno():
            os.dup2(nothing, sys.stdout.fileno())
            os.close(nothing)

# SPDX-License-Identifier: Apache-2.0
"""Options of commands that read frames: which sources, which of their frames, how patient with streams."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click
from rich.progress import Progress

from centermask_runtime.errors import UsageError, counted, shown
from centermask_runtime.interrupt import DeferredInterrupt
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.options import SourceOptions
from centermask_runtime.sources.source import Source
from centermask_runtime.sources.streams import StreamsSource

Command = Callable[..., Any]
STOPPING = "Stopping: what has been computed is being finished."
MOST_NAMED = 5  # files that are named among those left out


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic in new releases only
    """A time in a video: 90, 1:30 or 0:01:30.5."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        if re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", value) is None:
            self.fail(f"{value!r} is no time: write seconds, or 1:30, or 0:01:30.", param, ctx)
        seconds = 0.0
        for part in value.split(":"):
            seconds = seconds * 60 + float(part)
        return seconds


@dataclass(frozen=True)
class Sources:
    """What the user wants to be read."""

    words: tuple[str, ...]
    options: SourceOptions

    def open(self) -> Source:
        """One source of all. Raises UsageError, DataError."""
        if not self.words:
            raise UsageError("Name an image, a folder, a pattern or a video, as in `centermask predict PATH`.")
        return open_source(self.words[0] if len(self.words) == 1 else list(self.words), self.options)


def source_options(command: Command) -> Command:
    """Gives a command the argument `sources`, a Sources, from SOURCE..., --source and the options of frames."""

    @functools.wraps(command)
    def with_sources(
        *args: Any, sources: tuple[str, ...], source: tuple[str, ...], vid_stride: int, start: float, end: float | None,
        max_frames: int | None, realtime: bool, stall: float, give_up: float | None, rtsp_transport: Any, **others: Any,
    ) -> Any:  # fmt: skip
        options = SourceOptions(
            vid_stride, start, end, max_frames, realtime, stall, give_up, rtsp_transport, lambda text: _notice(text)
        )
        return command(*args, sources=Sources((*sources, *source), options), **others)

    for option in reversed(_OPTIONS):
        with_sources = option(with_sources)
    return click.argument("sources", nargs=-1, metavar="[SOURCE]...")(with_sources)


_OPTIONS = (
    click.option(
        "--source", multiple=True,
        help="Image, video, folder, pattern, list, - for stdin, camera's number, or address; several are allowed.",
    ),
    click.option("--vid-stride", type=click.IntRange(min=1), default=1, help="Take each N-th frame of a video."),
    click.option("--start", type=Seconds(), default=0.0, help="Of a video: begin there, as 90 or 1:30."),
    click.option("--end", type=Seconds(), help="Of a video or stream: end there."),
    click.option(
        "--max-frames", type=click.IntRange(min=1),
        help="At most so many frames of each source (of a stream with those that were dropped).",
    ),
    click.option("--realtime", is_flag=True, help="Of streams, always the newest frame; late ones are dropped."),
    click.option(
        "--stall", type=click.FloatRange(min=0.1), default=10.0, show_default=True, metavar="SECONDS",
        help="A stream without a picture for so long is opened again.",
    ),
    click.option(
        "--give-up", type=click.FloatRange(min=0), metavar="SECONDS",
        help="A stream without a picture for so long is left (default: never).",
    ),
    click.option(
        "--rtsp-transport", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True, help="Of RTSP.",
    ),
)  # fmt: skip


@contextmanager
def stoppable() -> Iterator[DeferredInterrupt]:
    """The first Ctrl-C or SIGTERM waits for a poll, so that files are finished; a second one stops at once."""
    with DeferredInterrupt(announce=True, answer=STOPPING) as interrupt:
        yield interrupt


@contextmanager
def notices_above(progress: Progress) -> Iterator[None]:
    """What streams tell appears above a bar while it runs."""
    global _print
    before, _print = _print, lambda text: progress.console.print(text, markup=False, highlight=False)
    try:
        yield
    finally:
        _print = before


def tell_left_out(source: Source) -> None:
    """Says which files of folders were neither images nor videos."""
    left = source.info.left_out
    if left:
        names = ", ".join(shown(path.name) for path in left[:MOST_NAMED])
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        click.echo(f"Left out {counted(len(left), 'file')}, neither image nor video: {names}{more}.", err=True)


def tell_streams(source: Source) -> None:
    """Says how each stream fared."""
    for state in source.states if isinstance(source, StreamsSource) else ():
        click.echo(
            f"{state.name}: {counted(state.frames, 'frame')}, {state.dropped} dropped, {state.damaged} damaged, "
            f"{counted(state.connections, 'connection')}",
            err=True,
        )


def _echo(text: str) -> None:
    click.echo(text, err=True)


_print: Callable[[str], None] = _echo


def _notice(text: str) -> None:
    _print(text)

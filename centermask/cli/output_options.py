# SPDX-License-Identifier: Apache-2.0
"""Where the results of predict and track go: the options, and the sinks that they mean."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from centermask.opening import find_model
from centermask_runtime.closing import Closing
from centermask_runtime.errors import UsageError, counted, shown
from centermask_runtime.reference.overlay import MOST_LABELS, DrawStyle
from centermask_runtime.sinks.codecs import CODECS, DEFAULT_CODEC
from centermask_runtime.sinks.job import Job, model_digest
from centermask_runtime.sinks.live_view import LiveSink
from centermask_runtime.sinks.output_folder import OutputFolder, missing
from centermask_runtime.sinks.outputs import (
    DEFAULT_RESULTS,
    KINDS,
    ON_STDOUT,
    SINKS_OF_ALL,
    Outputs,
    result_sinks,
    sinks_of,
    text_sink,
)
from centermask_runtime.sinks.sink import Sink
from centermask_runtime.sinks.tracked import Tracked, TrackedSink
from centermask_runtime.sources.files import FileSource
from centermask_runtime.sources.source import Source
from centermask_runtime.spec import ModelSpec

Command = Callable[..., Any]
STDOUT = "-"
NO_TERMS = (  # options that results do not depend on, or that are terms by themselves
    "model", "source", "sources", "output", "device", "cuda_driver", "threads", "as_json", "show", "skip_done",
    "realtime", "stall", "give_up", "rtsp_transport",
)  # fmt: skip


def output_options(*, jobs: bool) -> Callable[[Command], Command]:
    """The options of a command that writes results; they come to it as `output`, a Destination.

    jobs: whether what it does with one image stands for itself, so that the rest can be done later.
    """

    def decorated(command: Command) -> Command:
        @functools.wraps(command)
        def with_destination(
            *arguments: Any, output: str | None, results: str | None, save: bool, codec: str, boxes: bool,
            labels: bool, show: bool, skip_done: bool = False, **others: Any,
        ) -> Any:  # fmt: skip
            context, style = click.get_current_context(), DrawStyle(boxes=boxes, labels=labels)
            terms = {name.replace("_", "-"): value for name, value in context.params.items() if name not in NO_TERMS}
            destination = Destination(
                context.info_name or "run", output, results, style, save, codec, show, skip_done, terms
            )
            return command(*arguments, output=destination, **others)

        wrapped: Command = with_destination
        for option in reversed(_options(command.__name__, jobs)):
            wrapped = option(wrapped)
        return wrapped

    return decorated


def _options(name: str, jobs: bool) -> list[Callable[[Command], Command]]:
    options: list[Callable[[Command], Command]] = [
        click.option(
            "--output", help=f"A folder (default: runs/{name}, {name}2, ...), or - for jsonl or csv on stdout."
        ),
        click.option(
            "--results", metavar="KINDS",
            help=f"Of {', '.join(KINDS)}, comma-separated, or none (default: {DEFAULT_RESULTS[0]}).",
        ),
        click.option("--save/--no-save", default=True, show_default=True, help="Write drawn pictures or the video."),
        click.option(
            "--codec", type=click.Choice(list(CODECS)), default=DEFAULT_CODEC, show_default=True, help="Of videos."
        ),
        click.option("--boxes/--no-boxes", default=True, show_default=True, help="Draw boxes."),
        click.option(
            "--labels/--no-labels", default=True, show_default=True,
            help=f"Draw names and scores, where a frame has at most {MOST_LABELS} objects.",
        ),
        click.option("--show", is_flag=True, help="Show drawn frames in a window or, without a display, on a page."),
    ]  # fmt: skip
    if jobs:
        text = "Leave out the images that are done in --output, a folder that was begun with this option."
        options.append(click.option("--skip-done", is_flag=True, help=text))
    return options


@dataclass
class Destination(Closing):
    """Where the results of one run go. It holds the folder of its output from `open` until it is closed."""

    command: str
    output: str | None
    results: str | None
    style: DrawStyle
    save: bool  # drawn pictures or videos
    codec: str
    show: bool
    skip_done: bool
    terms: Mapping[str, Any]  # options that results depend on
    folder: Path | None = None  # None for the standard output
    before: int = 0  # frames that were done before
    _outputs: Outputs = field(default_factory=Outputs)
    _job: Job | None = None
    _done: frozenset[str] = frozenset()
    _live: LiveSink | None = None
    _made: list[Sink] = field(default_factory=list)
    _held: ExitStack = field(default_factory=ExitStack)

    def check(self, prints_json: bool = False) -> None:
        """prints_json: whether the command has something else to print on stdout.

        Raises UsageError for what cannot be, before anything is opened."""
        kinds = self.results
        if kinds is None:
            kinds = ON_STDOUT[0] if self.output == STDOUT else ",".join(DEFAULT_RESULTS)
        self._outputs = Outputs.of(kinds, self.style if self.save and self.output != STDOUT else None, self.codec)
        if self.output == STDOUT:
            if len(self._outputs.results) != 1 or self._outputs.results[0] not in ON_STDOUT:
                raise UsageError(f"--output - takes one kind of --results, {' or '.join(ON_STDOUT)}, not {kinds}.")
            if prints_json:
                raise UsageError("--output - and --json both print on stdout: leave one out.")
            if self.skip_done:
                raise UsageError("--skip-done goes on with a folder, and --output - writes into none: name a folder.")
        elif self.output == "":
            raise UsageError("--output is empty text: name a folder, or - for the standard output.")
        elif self.skip_done and self.output is None:
            raise UsageError("--skip-done needs --output, the folder to begin or to go on with.")

    def open(self, source: Source, model: str) -> bool:
        """Takes the folder, and finds what is done there -> whether anything is left to do.

        Raises UsageError where another run holds it, or its job was begun with another model or other options.
        """
        if self.output == STDOUT:
            return True
        if self.output is None:
            self.folder = self._held.enter_context(_free_folder(Path("runs"), self.command)).folder
            return True
        self.folder = Path(self.output)
        if not self.skip_done:
            return True
        self._held.enter_context(OutputFolder(self.folder))
        terms = {name: value for name, value in sorted(self.terms.items()) if value is not None}
        self._job = Job(self.folder, {"model": model_digest(find_model(model)), "source": source.info.name, **terms})
        if not isinstance(source, FileSource):
            return not self._job.is_finished
        self._done = self._job.done(dict(source.info.files))
        self.before, source.done = len(self._done), self._done
        return True

    def open_alone(self) -> tuple[Path, DrawStyle | None]:
        """Takes the folder for predictions.json and one picture, which no sinks write -> it, and how to draw.

        Raises UsageError where anything else is asked for.
        """
        if self.output == STDOUT or self.skip_done or self.show or self._outputs.results != DEFAULT_RESULTS:
            raise UsageError(
                "Of a TIFF that is read by windows there are predictions.json and a picture: leave --results, --show, "
                "--skip-done and --output - out."
            )
        own = None if self.output is None else Path(self.output)
        self.folder = own or self._held.enter_context(_free_folder(Path("runs"), self.command)).folder
        return self.folder, self._outputs.style

    def sinks(self, source: Source, spec: ModelSpec, tracked: Tracked | None = None) -> Iterator[Sink]:
        """The sinks, one by one, for predict.run. tracked: what of tracks is drawn and counted."""
        outputs = dataclasses.replace(self._outputs, tracked=tracked)
        for sink in self._sinks(source, spec, outputs):
            self._made.append(sink)
            yield sink

    def refresh(self) -> None:
        """Is called by the main thread after each frame. Raises KeyboardInterrupt where the window was closed."""
        if self._live is not None:
            self._live.refresh()

    def finish(self) -> None:
        """Tells what outputs lack, and notes that all is done."""
        for sink in self._made:
            for note in getattr(sink, "notes", ()):
                click.echo(f"Note: {note}", err=True)
        if self._job is not None:
            self._job.finish()

    @property
    def said(self) -> str:
        """Where results are, for the end of a sentence."""
        if self.folder is None:
            return "results on the standard output"
        were = "were" if self.before > 1 else "was"
        before = f"; {counted(self.before, 'frame')} {were} done before" if self.before else ""
        return f"results in {shown(self.folder)}{before}"

    def close(self) -> None:
        """Gives the folder free."""
        self._held.close()

    def _sinks(self, source: Source, spec: ModelSpec, outputs: Outputs) -> Iterator[Sink]:
        if self.show:
            self._live = LiveSink(self.style)
            click.echo(f"Frames are shown in {self._live.where}", err=True)
            tracked = outputs.tracked
            yield self._live if tracked is None else TrackedSink(self._live, tracked, spec.class_names)
        if self.folder is None:
            yield text_sink(self._outputs.results[0], None)
            return
        take = sinks_of if self.output is not None and self._job is None else result_sinks
        yield from take(self.folder, source.info, spec, outputs)
        if self._job is not None and isinstance(source, FileSource):
            of_all: list[Sink] = [sink for sink in self._made if isinstance(sink, SINKS_OF_ALL)]
            yield self._job.sink(self._done, spec, of_all)


def _free_folder(parent: Path, name: str) -> OutputFolder:
    """parent/name, or the first of parent/name2, name3, ... that is not there; no other run gets the same one."""
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}{number}")
        made = missing(path)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError:
            return OutputFolder(path)  # says what is wrong
        else:
            held = OutputFolder(path)
            held.made = made
            return held
